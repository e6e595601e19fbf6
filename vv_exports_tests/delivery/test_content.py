"""What is delivered of a snapshot is a value: the log says it of each entry, and an id is made of it."""

import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.provenance import delivery_id
from vv_exports.domain.content_options import Fields
from vv_exports.snapshots.tables import LAYOUT_VERSION
from vv_exports_tests.delivery.conftest import content_of

CHOICES = [
    {},
    {"format_name": "csv"},
    {"format_name": "jsonl"},
    {"layout_version": LAYOUT_VERSION + 1},
    {"tables": ("segments",)},
    {"fields": Fields(exclude=("metadata.title",))},
    {"fields": Fields(include=("metadata.title",))},
    {"redact": {"metadata.title": "mask"}},
    {"redact": {"metadata.title": "drop"}},
    {"compression": "snappy"},
    {"target_file_bytes": 2 << 20},
]


def test_contents_that_differ_have_ids_that_differ_and_the_same_has_the_same():
    assert len({content_of(**chosen).id for chosen in CHOICES}) == len(CHOICES)
    assert content_of("csv").id == content_of("csv").id
    assert content_of(compression="zstd").id == content_of().id, "it is the default"
    assert content_of(on_schema_conflict="text").id == content_of().id, "no file shows it"
    turned = content_of(redact={"b": "drop", "a": "mask"}), content_of(redact={"a": "mask", "b": "drop"})
    assert turned[0].id == turned[1].id


def test_a_delivery_has_another_id_for_another_content_place_or_snapshot(deployment):
    one, other = deployment.snapshot("run_1"), deployment.snapshot("run_2")
    parquet, csv = content_of("parquet"), content_of("csv")
    ids = {
        delivery_id("file:///a", parquet, [one]),
        delivery_id("file:///a", csv, [one]),
        delivery_id("file:///b", parquet, [one]),
        delivery_id("file:///a", parquet, [one, other]),
        delivery_id("file:///a", parquet, [one], [("prm", "segments", "abc")]),
    }
    assert len(ids) == 5
    assert delivery_id("a", parquet, [one, other]) == delivery_id("a", parquet, [other, one])


@pytest.mark.parametrize("chosen", CHOICES[1:])
def test_what_a_log_holds_is_held_as_the_content_that_it_was_delivered_as(deployment, clock, chosen):
    snapshot, later = deployment.snapshot("run_1"), deployment.snapshot("run_1", segments=9)
    deliver(deployment.request(snapshot), deployment.store, clock)
    state = read_log(deployment.destination())
    assert content_of().is_delivered(state, snapshot)
    assert not content_of(**chosen).is_delivered(state, snapshot)
    assert not content_of().is_delivered(state, later)
