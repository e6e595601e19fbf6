"""One prompt, one table: all files of a prompt's table have the same columns, however its schema changes."""

import random
from datetime import timedelta
from functools import partial

import msgspec
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from vv_exports.content.column_json import column_from_json
from vv_exports.delivery import plan
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.reading import documents
from vv_exports.delivery.verify import verify
from vv_exports.domain.content_options import Fields
from vv_exports.errors import SchemaConflictError
from vv_exports.snapshots import reading, store
from vv_exports.snapshots.tables import tables_of
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.conftest import NOW, TEAM
from vv_exports_tests.fakes.faulty_connector import FaultyConnector, delayed


def of(**properties):
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}


def rows(*metadata):
    return [segment(number, metadata=one) for number, one in enumerate(metadata)]


def entries(deployment):
    return entries_since(deployment.destination(), 0)


def told(deployment):
    """Of each entry, the reasons of its runs."""
    return [{run.run_id: run.reason for run in entry.prompt_runs} for entry in entries(deployment)]


def table(deployment, folder="segments"):
    """What a plain reader of a prompt's folder has."""
    path = deployment.folder / "deliveries" / TEAM / folder
    files = sorted(path.rglob("*.parquet"))
    schemas = {str(pq.read_schema(file).remove_metadata()) for file in files}
    found = ds.dataset([str(file) for file in files], format="parquet").to_table().sort_by("prompt_run_id")
    return schemas, found.to_pylist()


@pytest.fixture
def give(deployment, clock):
    """Deliver snapshots of these runs, as an automation does."""

    def give(*snapshots, **request):
        return deliver(deployment.request(*snapshots, **request), deployment.store, clock)

    return give


def test_a_new_property_is_a_column_of_the_new_run_at_once_and_of_the_others_once_they_are_delivered_again(
    deployment, give
):
    old = deployment.snapshot("run_1", schema=of(title="string"), segments=rows({"title": "a"}))
    give(old)
    new = deployment.snapshot(
        "run_2", schema=of(title="string", mood="string"), segments=rows({"title": "b", "mood": "calm"})
    )
    give(new)
    state = read_log(deployment.destination())
    up_to_date = deployment.request(old).content.up_to_date(state)
    assert (up_to_date(state.runs["run_1"]), up_to_date(state.runs["run_2"])) == (False, True)
    give(old)
    assert told(deployment) == [{"run_1": "new"}, {"run_2": "new"}, {"run_1": "reshaped"}]
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"] for row in found] == [{"title": "a", "mood": None}, {"title": "b", "mood": "calm"}]
    before = deployment.files()
    assert not give(old, new).committed
    assert deployment.files() == before
    assert verify(deployment.destination()).problems == ()


def test_a_run_with_fewer_properties_gets_the_columns_of_its_prompt_and_nothing_else_is_written(deployment, give):
    old = deployment.snapshot(
        "run_1", schema=of(title="string", mood="string"), segments=rows({"title": "a", "mood": "x"})
    )
    give(old)
    new = deployment.snapshot("run_2", schema=of(mood="string"), segments=rows({"mood": "y"}))
    give(new)
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"] for row in found] == [{"title": "a", "mood": "x"}, {"title": None, "mood": "y"}]
    assert not give(old, new).committed


def test_integers_become_numbers_and_one_that_no_double_holds_is_rescued(deployment, give):
    exact = 2**53 + 1
    old = deployment.snapshot("run_1", schema=of(score="integer"), segments=rows({"score": 1}, {"score": exact}))
    new = deployment.snapshot("run_2", schema=of(score="number"), segments=rows({"score": 1.5}))
    give(old)
    give(new)
    give(old)
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"]["score"] for row in found] == [1.0, None, 1.5]
    assert found[1]["rescued"] == f'{{"/metadata/score":{exact}}}'


def test_what_was_undeclared_moves_from_rescued_to_its_column(deployment, give):
    old = deployment.snapshot("run_1", schema=of(title="string"), segments=rows({"title": "a", "mood": "dark"}))
    new = deployment.snapshot("run_2", schema=of(title="string", mood="string"), segments=rows({"title": "b"}))
    give(old)
    assert table(deployment)[1][0]["rescued"] == '{"/metadata/mood":"dark"}'
    give(new)
    give(old)
    _, found = table(deployment)
    assert [(row["metadata"]["mood"], row["rescued"]) for row in found] == [("dark", None), (None, None)]


def test_a_log_entry_says_which_columns_its_files_have(deployment, give):
    give(deployment.snapshot("run_1", schema=of(title="string"), segments=rows({"title": "a"})))
    give(deployment.snapshot("run_2", schema=of(title="string", n="integer"), segments=rows({"title": "b", "n": 1})))
    for entry in entries(deployment):
        (said,) = [one for one in entry.tables if one.table == "segments"]
        for file in entry.files:
            if file.table == "segments":
                schema = pq.read_schema(deployment.folder / "deliveries" / TEAM / file.path)
                assert schema.names == list(said.columns)
                assert schema.field("metadata").type == column_from_json(said.columns["metadata"]).arrow_type
    first, second = ([one.change for one in entry.tables if one.table == "segments"] for entry in entries(deployment))
    assert first == [None]
    assert second == ["prompt run 'run_2' needs more: /n is new"]


@pytest.fixture
def clashing(deployment, give):
    """Two runs of a prompt, the second with another type in a place; the first one is delivered."""
    old = deployment.snapshot("run_1", schema=of(place="integer"), segments=rows({"place": 1}))
    new = deployment.snapshot("run_2", schema=of(place="string"), segments=rows({"place": "Rome"}))
    give(old)
    return old, new


def test_in_conflict_the_new_type_goes_to_a_folder_of_its_own_and_readers_of_the_old_one_see_what_they_saw(
    deployment, give, clashing
):
    old, new = clashing
    before = table(deployment)
    give(new)
    assert table(deployment) == before
    assert [row["metadata"]["place"] for row in table(deployment, "segments.v2")[1]] == ["Rome"]
    assert not give(old, new).committed
    (second,) = (one for one in entries(deployment)[1].tables if one.folder == "segments.v2")
    assert "/place" in second.change
    later = deployment.snapshot("run_3", schema=of(place="string"), segments=rows({"place": "Oslo"}))
    give(later)
    assert [row["metadata"]["place"] for row in table(deployment, "segments.v2")[1]] == ["Rome", "Oslo"]
    assert table(deployment) == before
    assert verify(deployment.destination()).problems == ()
    (deployment.folder / "deliveries" / TEAM / "segments.v2" / "mine.txt").write_text("x")
    assert "not the pipeline's" in verify(deployment.destination()).problems[0]


def test_in_conflict_the_place_becomes_text_for_all_runs_of_the_prompt(deployment, give, clashing):
    old, new = clashing
    as_text = {"options": {"on_schema_conflict": "text"}}
    give(new, **as_text)
    give(old, **as_text)
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"]["place"] for row in found] == ["1", '"Rome"']
    assert not give(old, new, **as_text).committed


def test_in_conflict_the_run_waits_and_nothing_is_written(deployment, give, clashing):
    _, new = clashing
    before = deployment.files()
    with pytest.raises(SchemaConflictError, match=r"run_2.*place"):
        give(new, options={"on_schema_conflict": "hold"})
    assert deployment.files() == before


def test_runs_of_one_delivery_have_one_table_whatever_their_order(deployment, give):
    one = deployment.snapshot("run_1", schema=of(a="string"), segments=rows({"a": "1"}))
    two = deployment.snapshot("run_2", schema=of(b="integer"), segments=rows({"b": 2}))
    give(two, one)
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"] for row in found] == [{"a": "1", "b": None}, {"a": None, "b": 2}]
    assert not give(one, two).committed


@pytest.mark.parametrize("format_name", ["jsonl", "json"])
def test_documents_have_no_columns_and_are_not_delivered_again(deployment, give, format_name):
    old = deployment.snapshot("run_1", schema=of(title="string"), segments=rows({"title": "a"}))
    new = deployment.snapshot("run_2", schema=of(title="integer", mood="string"), segments=rows({"title": 1}))
    give(old, format_name=format_name)
    give(new, format_name=format_name)
    assert not give(old, new, format_name=format_name).committed
    assert {file.path.partition("/")[0] for file in read_log(deployment.destination()).files} == {"segments"}


@pytest.mark.parametrize("format_name", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("tables", [("videos",), ("failures",), ("videos", "failures")])
def test_a_run_of_which_no_table_with_metadata_is_delivered_is_delivered_once(deployment, give, format_name, tables):
    failed = {"video_id": "vid_1", "segment_id": "seg_9", "failure_message": "no"}
    chosen = {"format_name": format_name, "options": {"tables": tables}}
    empty = deployment.snapshot("run_1", segments=1)
    partial_one = deployment.snapshot("run_2", segments=1, failures=[failed], status="completed_with_failures")
    give(empty, partial_one, **chosen)
    state = read_log(deployment.destination())
    assert set(map(deployment.request(**chosen).content.up_to_date(state), state.runs.values())) == {True}
    assert not give(empty, partial_one, **chosen).committed


@pytest.mark.parametrize("format_name", ["parquet", "csv"])
def test_names_that_readers_cannot_hold_have_no_columns_whatever_the_snapshot_of_version_0_1_has(
    deployment, give, monkeypatch, format_name
):
    schema, document = of(Name="string", name="string", **{"": "string"}), {"Name": "a", "name": "b", "": "c"}
    with monkeypatch.context() as before:
        before.setattr(reading, "tables_of", partial(tables_of, layout_version=1))
        before.setattr(store, "LAYOUT_VERSION", 1)
        taken = deployment.snapshot("run_1", schema=schema, segments=rows(document))
    parts = {
        name: [msgspec.structs.replace(part, answers=None) for part in taken.tables[name]] for name in taken.tables
    }
    old = msgspec.structs.replace(taken, tables=parts)
    assert list(old.table("segments").column.fields["metadata"].fields) == ["Name", "name", ""]
    give(old, format_name=format_name)
    (said,) = entries(deployment)[0].tables
    assert [one["name"] for one in said.metadata["fields"]] == ["Name"]
    new = deployment.snapshot("run_2", schema=schema, segments=rows(document))
    give(new, format_name=format_name)
    assert not give(old, new, format_name=format_name).committed
    if format_name == "parquet":
        schemas, found = table(deployment)
        assert len(schemas) == 1
        assert {row["rescued"] for row in found} == {'{"/metadata/":"c","/metadata/name":"b"}'}


@pytest.fixture
def plans(monkeypatch):
    """How often a delivery has planned."""
    made, really = [], plan.plan

    def planned(*arguments):
        made.append(1)
        return really(*arguments)

    monkeypatch.setattr("vv_exports.delivery.deliver.plan", planned)
    return made


def race(deployment, clock, ours, theirs):
    """Deliver ours, while theirs is committed just before its entry is."""

    def first():
        deliver(deployment.request(theirs), deployment.store, clock)

    connector = FaultyConnector(deployment.connector, {0: delayed(first)}, only=frozenset({"create"}))
    state = read_log(deployment.destination())
    return deliver(deployment.request(ours, connector=connector), deployment.store, clock, state=state)


def test_a_delivery_that_comes_second_does_not_begin_anew_where_columns_stay_as_they_are(
    deployment, give, clock, plans
):
    old, failed = of(title="string"), {"video_id": "vid_1", "segment_id": "seg_9", "failure_message": "no"}
    give(deployment.snapshot("run_0", schema=old, segments=rows({"title": "z"})))
    more = deployment.snapshot("run_1", schema=of(title="string", mood="string"), segments=rows({"title": "a"}))
    same = deployment.snapshot(
        "run_2", schema=old, segments=rows({"title": "b"}), failures=[failed], status="completed_with_failures"
    )
    plans.clear()
    race(deployment, clock, more, same)
    assert len(plans) == 2, "one for each delivery"
    assert told(deployment)[1:] == [{"run_2": "new"}, {"run_1": "new"}]


def test_a_delivery_that_comes_second_begins_anew_where_columns_have_changed(deployment, give, clock):
    old = of(title="string")
    give(deployment.snapshot("run_0", schema=old, segments=rows({"title": "z"})))
    more = deployment.snapshot("run_1", schema=of(title="string", mood="string"), segments=rows({"title": "a"}))
    other = deployment.snapshot("run_2", schema=of(title="string", place="string"), segments=rows({"title": "b"}))
    race(deployment, clock, more, other)
    assert told(deployment)[1:] == [{"run_2": "new"}, {"run_1": "new"}]
    last = entries(deployment)[-1].tables[0]
    assert [one["name"] for one in last.metadata["fields"]] == ["title", "place", "mood"]


def test_what_has_expired_is_removed_by_an_entry_that_forgets_it_and_not_again_and_again(deployment, give):
    now = [NOW]
    kept = {"retain_superseded": timedelta(hours=1)}
    for title in "ab":
        run = deployment.snapshot("run_1", schema=of(title="string"), segments=rows({"title": title}))
        deliver(deployment.request(run, **kept), deployment.store, lambda: now[0])
    (first,) = read_log(deployment.destination()).retained
    now[0] += timedelta(hours=2)
    other = deployment.snapshot("run_2", schema=of(title="string"), segments=rows({"title": "c"}))
    for expected in ((first,), ()):
        made = deliver(deployment.request(other, **kept), deployment.store, lambda: now[0])
        assert made.removed == expected
        assert first not in deployment.files()


CHOICES = [
    {"fields": Fields(include=("metadata.title",))},
    {"fields": Fields(exclude=("metadata.mood", "metadata.n"))},
    {"fields": Fields(exclude=("metadata",))},
]


@pytest.mark.parametrize("format_name", ["parquet", "csv"])
@pytest.mark.parametrize("options", CHOICES)
def test_a_field_that_is_not_delivered_makes_no_file_be_written_again(deployment, give, format_name, options):
    chosen = {"format_name": format_name, "options": options}
    old = deployment.snapshot("run_1", schema=of(title="string", n="integer"), segments=rows({"title": "a", "n": 1}))
    give(old, **chosen)
    more = of(title="string", n="number", mood="string")
    new = deployment.snapshot("run_2", schema=more, segments=rows({"title": "b", "n": 1.5, "mood": "calm"}))
    give(new, **chosen)
    assert not give(old, new, **chosen).committed
    assert [one.change for entry in entries(deployment) for one in entry.tables] == [None, None]
    if format_name == "parquet":
        assert len(table(deployment)[0]) == 1


def test_a_field_that_was_not_delivered_has_a_column_once_it_is_chosen(deployment, give):
    without = {"options": {"fields": Fields(exclude=("metadata.mood",))}}
    old = deployment.snapshot("run_1", schema=of(title="string"), segments=rows({"title": "a"}))
    new = deployment.snapshot("run_2", schema=of(title="string", mood="string"), segments=rows({"mood": "calm"}))
    give(old, **without)
    give(new, **without)
    give(old)
    give(new)
    assert told(deployment)[2:] == [{"run_1": "reshaped"}, {"run_2": "reshaped"}]
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"] for row in found] == [{"title": "a", "mood": None}, {"title": None, "mood": "calm"}]
    assert not give(old, new).committed


@pytest.mark.parametrize("policy", ["new_version", "text", "hold"])
@pytest.mark.parametrize("fields", [Fields(exclude=("metadata.place",)), Fields(include=("metadata.title",))])
def test_a_place_that_is_not_delivered_is_no_place_of_conflict(deployment, give, policy, fields):
    chosen = {"options": {"fields": fields, "on_schema_conflict": policy}}
    one = deployment.snapshot(
        "run_1", schema=of(title="string", place="integer"), segments=rows({"title": "a", "place": 1})
    )
    two = deployment.snapshot(
        "run_2", schema=of(title="string", place="string"), segments=rows({"title": "b", "place": "Rome"})
    )
    give(one, **chosen)
    give(two, **chosen)
    assert not give(one, two, **chosen).committed
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [(row["metadata"], row["rescued"]) for row in found] == [({"title": "a"}, None), ({"title": "b"}, None)]


def test_a_conflict_in_a_place_that_is_delivered_is_one_whatever_is_not(deployment, give):
    held = {"options": {"fields": Fields(exclude=("metadata.title",)), "on_schema_conflict": "hold"}}
    give(deployment.snapshot("run_1", schema=of(title="string", place="integer"), segments=1), **held)
    other = deployment.snapshot("run_2", schema=of(title="integer", place="string"), segments=1)
    with pytest.raises(SchemaConflictError, match="/place") as error:
        give(other, **held)
    assert "/title" not in str(error.value)


@pytest.mark.parametrize("format_name", ["parquet", "jsonl", "csv", "json"])
def test_a_table_goes_on_in_another_file_at_the_size_that_is_asked_for(deployment, give, monkeypatch, format_name):
    monkeypatch.setattr("vv_exports.snapshots.store._BATCH_ROWS", 50)
    words = random.Random(1)
    answers = [{"title": words.randbytes(2000).hex()} for _ in range(600)]
    snapshot = deployment.snapshot("run_1", schema=of(title="string"), segments=rows(*answers))
    chosen = {"target_file_bytes": 1 << 20, "compression": "none"}
    give(snapshot, format_name=format_name, options=chosen)
    files = [file for file in read_log(deployment.destination()).files if file.table == "segments"]
    assert len(files) > 1
    assert sum(file.rows for file in files) == 600
    found = [one.document["metadata"] for one in documents(deployment.destination()) if one.table == "segments"]
    assert found == answers
    assert not give(snapshot, format_name=format_name, options=chosen).committed
