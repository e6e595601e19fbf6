"""What is delivered of a snapshot is a value: the log says it of each entry, and an id is made of it."""

from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.provenance import delivery_id
from vv_exports.formats.registry import FORMATS
from vv_exports.snapshots.tables import LAYOUT_VERSION


def test_contents_that_differ_have_ids_that_differ_and_the_same_has_the_same():
    contents = [Content(name, version) for name in FORMATS for version in (LAYOUT_VERSION, LAYOUT_VERSION + 1)]
    assert len({content.id for content in contents}) == len(contents)
    assert Content("csv").id == Content("csv", LAYOUT_VERSION).id


def test_a_delivery_has_another_id_for_another_content_place_or_snapshot(deployment):
    one, other = deployment.snapshot("run_1"), deployment.snapshot("run_2")
    parquet, csv = Content("parquet"), Content("csv")
    ids = {
        delivery_id("file:///a", parquet, [one]),
        delivery_id("file:///a", csv, [one]),
        delivery_id("file:///b", parquet, [one]),
        delivery_id("file:///a", parquet, [one, other]),
    }
    assert len(ids) == 4
    assert delivery_id("a", parquet, [one, other]) == delivery_id("a", parquet, [other, one])


def test_what_a_log_holds_is_held_as_the_content_that_it_was_delivered_as(deployment, clock):
    snapshot, later = deployment.snapshot("run_1"), deployment.snapshot("run_1", segments=9)
    deliver(deployment.request(snapshot), deployment.store, clock)
    state = read_log(deployment.destination())
    assert Content.of(state.runs["run_1"].entry) == Content("parquet")
    assert Content("parquet").is_delivered(state, snapshot)
    assert not Content("csv").is_delivered(state, snapshot)
    assert not Content("parquet", LAYOUT_VERSION + 1).is_delivered(state, snapshot)
    assert not Content("parquet").is_delivered(state, later)
    assert not Content("parquet").holds(state, "run_1", snapshot.data_version, "completed_with_failures")
    assert not Content("parquet").holds(state, "run_2", snapshot.data_version, str(snapshot.status))
