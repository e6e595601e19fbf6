"""Parquet that version 0.1 delivered stays as it is where it has the columns that this version gives. Its log tells the
schemas of the runs, so that neither a file nor a snapshot is opened for that."""

import random

import pyarrow.parquet as pq
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.reading import documents
from vv_exports.delivery.verify import verify
from vv_exports.domain.content_options import Fields
from vv_exports.errors import SchemaConflictError
from vv_exports_tests.delivery.conftest import NOW, TEAM
from vv_exports_tests.delivery.earlier_version import deliver_by_0_1, snapshot_of_0_1
from vv_exports_tests.delivery.test_one_table import of, rows, table


@pytest.fixture
def kept(deployment):
    """A snapshot that version 0.1 took of a run."""

    def kept(run_id, schema, metadata, **run):
        return snapshot_of_0_1(deployment, run_id, schema=schema, segments=rows(metadata), **run)

    return kept


@pytest.fixture
def give(deployment):
    """Deliver snapshots of these runs, as an automation does."""

    def give(*snapshots, **request):
        return deliver(deployment.request(*snapshots, **request), deployment.store, lambda: NOW)

    return give


def outgrown(deployment, **request):
    """The runs that are due for their shape alone."""
    state = read_log(deployment.destination())
    up_to_date = deployment.request(**request).content.up_to_date(state)
    return {run_id for run_id, held in state.runs.items() if not up_to_date(held)}


def test_runs_of_one_schema_are_not_delivered_again(deployment, kept, give):
    runs = [kept(f"run_{n}", of(title="string"), {"title": str(n)}) for n in range(3)]
    deliver_by_0_1(deployment, *runs[:2])
    deliver_by_0_1(deployment, runs[2])
    assert outgrown(deployment) == set()
    before = deployment.files()
    assert not give(*runs).committed
    assert deployment.files() == before


@pytest.mark.parametrize("narrow_first", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_of_two_schemas_of_a_prompt_the_narrower_one_alone_is_delivered_again(
    deployment, kept, give, narrow_first, together
):
    # In the wider one, the order of the columns is another than in the union that begins with the narrower.
    narrow = kept("run_n", of(title="string"), {"title": "a"})
    wide = kept("run_w", of(mood="string", title="string"), {"mood": "calm", "title": "b"})
    runs = (narrow, wide) if narrow_first else (wide, narrow)
    for some in [runs] if together else [runs[:1], runs[1:]]:
        deliver_by_0_1(deployment, *some)
    assert outgrown(deployment) == {"run_n"}
    delivery = give(*runs)
    assert [run.run_id for run in delivery.prompt_runs if run.written] == ["run_n"]
    assert outgrown(deployment) == set()
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"] for row in found] == [{"mood": None, "title": "a"}, {"mood": "calm", "title": "b"}]


def test_where_no_run_has_all_columns_all_are_delivered_again(deployment, kept, give):
    runs = [kept("run_1", of(a="string"), {"a": "x"}), kept("run_2", of(b="string"), {"b": "y"})]
    deliver_by_0_1(deployment, *runs)
    assert outgrown(deployment) == {"run_1", "run_2"}
    # One after the other, as where one of them cannot be had today: what comes first has the columns of both.
    give(runs[1])
    assert outgrown(deployment) == {"run_1"}
    give(runs[0])
    assert outgrown(deployment) == set()
    assert len(table(deployment)[0]) == 1


def test_a_column_of_whole_numbers_is_outgrown_by_one_of_numbers(deployment, kept):
    deliver_by_0_1(deployment, kept("run_1", of(n="integer"), {"n": 1}), kept("run_2", of(n="number"), {"n": 1.5}))
    assert outgrown(deployment) == {"run_1"}


def test_another_prompt_has_other_columns(deployment, kept):
    one = kept("run_1", of(a="string"), {"a": "x"}, prompt_id="prm_1")
    other = kept("run_2", of(a="string", b="string"), {"a": "x", "b": "y"}, prompt_id="prm_2")
    deliver_by_0_1(deployment, one, other)
    assert outgrown(deployment) == set()


def test_a_run_without_videos_is_not_outgrown_by_one_that_has_them(deployment, kept):
    videos = [{"video_id": "vid_1", "video_name": "Video", "metadata": {"summary": "All"}}]
    failed = {"video_id": "vid_1", "segment_id": "seg_9", "failure_message": "no"}
    both = kept(
        "run_1",
        of(a="string"),
        {"a": "x"},
        video_level_schema=of(summary="string"),
        videos=videos,
        failures=[failed],
        status="completed_with_failures",
    )
    wider = kept(
        "run_2", of(a="string"), {"a": "x"}, video_level_schema=of(summary="string", n="integer"), videos=videos
    )
    deliver_by_0_1(deployment, both, kept("run_0", of(a="string"), {"a": "x"}))
    assert outgrown(deployment) == set()
    deliver_by_0_1(deployment, wider)
    assert outgrown(deployment) == {"run_1"}


def test_names_that_cannot_be_columns_side_by_side_have_a_run_delivered_again(deployment, kept, give):
    twins = kept("run_1", of(Name="string", name="string"), {"Name": "a", "name": "b"})
    same = kept("run_2", of(Name="string"), {"Name": "c"})
    deliver_by_0_1(deployment, twins, same)
    assert outgrown(deployment) == {"run_1"}
    give(twins)
    assert outgrown(deployment) == set()
    assert len(table(deployment)[0]) == 1


def test_a_type_that_no_column_holds_with_the_earlier_one_goes_to_a_folder_of_its_own(deployment, kept, give):
    first, other = kept("run_1", of(n="integer"), {"n": 1}), kept("run_2", of(n="string"), {"n": "x"})
    deliver_by_0_1(deployment, first, other)
    assert outgrown(deployment) == {"run_2"}
    give(other)
    assert outgrown(deployment) == set()
    assert [[row["metadata"] for row in table(deployment, folder)[1]] for folder in ("segments", "segments.v2")] == [
        [{"n": 1}],
        [{"n": "x"}],
    ]


def test_a_type_that_no_column_holds_with_the_earlier_one_becomes_text_in_all_files_where_that_is_chosen(
    deployment, kept, give
):
    first, other = kept("run_1", of(n="integer"), {"n": 1}), kept("run_2", of(n="string"), {"n": "x"})
    deliver_by_0_1(deployment, first, other)
    chosen = {"options": {"on_schema_conflict": "text"}}
    assert outgrown(deployment, **chosen) == {"run_2"}
    give(other, **chosen)
    assert outgrown(deployment, **chosen) == {"run_1"}
    give(first, **chosen)
    assert outgrown(deployment, **chosen) == set()
    schemas, found = table(deployment)
    assert len(schemas) == 1
    assert [row["metadata"] for row in found] == [{"n": "1"}, {"n": '"x"'}]


def test_a_run_of_such_a_type_waits_where_that_is_chosen_and_the_others_stay(deployment, kept, give):
    first, other = kept("run_1", of(n="integer"), {"n": 1}), kept("run_2", of(n="string"), {"n": "x"})
    deliver_by_0_1(deployment, first, other)
    chosen = {"options": {"on_schema_conflict": "hold"}}
    assert outgrown(deployment, **chosen) == {"run_2"}
    with pytest.raises(SchemaConflictError, match="run_2"):
        give(other, **chosen)


def test_columns_that_no_file_has_any_more_are_of_no_account(deployment, kept):
    deliver_by_0_1(deployment, kept("run_1", of(a="string", b="string"), {"a": "x", "b": "y"}))
    deliver_by_0_1(deployment, kept("run_2", of(a="string"), {"a": "x"}))
    assert outgrown(deployment) == {"run_2"}
    deliver_by_0_1(deployment, kept("run_1", of(a="string"), {"a": "x"}))
    assert outgrown(deployment) == set()


def test_a_new_run_has_the_columns_of_those_files_and_the_log_tells_them(deployment, kept, give):
    old = kept("run_1", of(a="string", b="string"), {"a": "x", "b": "y"})
    deliver_by_0_1(deployment, old)
    delivery = give(deployment.snapshot("run_2", schema=of(a="string"), segments=rows({"a": "z"})))
    assert [field["name"] for field in delivery.tables[0].metadata["fields"]] == ["a", "b"]
    assert delivery.tables[0].change is None
    assert outgrown(deployment) == set()
    assert len(table(deployment)[0]) == 1


def test_a_new_run_with_more_columns_has_those_files_delivered_again(deployment, kept, give):
    old = kept("run_1", of(a="string", b="string"), {"a": "x", "b": "y"})
    deliver_by_0_1(deployment, old)
    delivery = give(deployment.snapshot("run_2", schema=of(a="string", c="string"), segments=rows({"c": "z"})))
    assert [field["name"] for field in delivery.tables[0].metadata["fields"]] == ["a", "b", "c"]
    assert "/c is new" in delivery.tables[0].change
    assert outgrown(deployment) == {"run_1"}
    give(old)
    assert outgrown(deployment) == set()
    assert len(table(deployment)[0]) == 1


@pytest.mark.parametrize("seed", range(8))
def test_whatever_schemas_a_prompt_had_what_is_not_delivered_again_has_the_same_columns(deployment, kept, give, seed):
    chance = random.Random(seed)
    runs, documents_of = {}, {}

    def one_of(run_id, take):
        names = sorted(chance.sample(["a", "A", "b", "c"], chance.randint(1, 3)))
        types = {name: chance.choice(["string", "integer", "number", "string"]) for name in names}
        # The order follows from the rest: of schemas that differ in it alone, one entry tells one.
        random.Random(repr(types)).shuffle(names)
        documents_of[run_id] = {name: "x" if types[name] == "string" else 1 for name in names}
        runs[run_id] = take(run_id, of(**{name: types[name] for name in names}), documents_of[run_id])

    def look():
        due = outgrown(deployment)
        found = {}
        for run_id, held in read_log(deployment.destination()).runs.items():
            for file in held.files if run_id not in due else ():
                columns = pq.read_schema(deployment.folder / "deliveries" / TEAM / file.path).remove_metadata()
                found.setdefault(file.path.partition("/")[0], set()).add(str(columns))
        assert {folder: len(columns) for folder, columns in found.items()} == dict.fromkeys(found, 1)
        return due

    for _ in range(3):
        some = [f"run_{chance.randint(0, 4)}" for _ in range(2)]
        for run_id in some:
            one_of(run_id, kept)
        deliver_by_0_1(deployment, *(runs[run_id] for run_id in sorted(set(some))))
        look()
    one_of(
        "run_9", lambda run_id, schema, document: deployment.snapshot(run_id, schema=schema, segments=rows(document))
    )
    give(runs["run_9"])
    for _ in range(12):
        if not (due := look()):
            break
        give(runs[chance.choice(sorted(due))])
    assert look() == set()
    found = {one.prompt_run_id: one.document["metadata"] for one in documents(deployment.destination())}
    assert found == documents_of
    assert verify(deployment.destination()).problems == ()


@pytest.mark.parametrize(
    "request_",
    [
        {"format_name": "csv"},
        {"format_name": "jsonl"},
        {"format_name": "json"},
        {"options": {"fields": Fields(exclude=("metadata.b",))}},
        {"options": {"tables": ("segments",)}},
        {"options": {"compression": "snappy"}},
        {"options": {"target_file_bytes": 1 << 20}},
    ],
)
def test_what_version_0_1_could_not_be_asked_for_is_delivered_again(deployment, kept, request_):
    deliver_by_0_1(deployment, kept("run_1", of(a="string", b="string"), {"a": "x", "b": "y"}))
    assert outgrown(deployment, **request_) == {"run_1"}
    assert outgrown(deployment) == set()


@pytest.mark.parametrize("name", ["csv", "jsonl", "json"])
def test_its_other_formats_are_delivered_again(deployment, kept, name):
    deliver_by_0_1(deployment, kept("run_1", of(a="string"), {"a": "x"}), format=name)
    assert outgrown(deployment, format_name=name) == {"run_1"}
    assert outgrown(deployment) == {"run_1"}


@pytest.mark.parametrize("changed", ["no run", "no schema", "another schema"])
def test_where_its_log_does_not_tell_the_schema_a_run_is_delivered_again(deployment, kept, changed):
    run = kept("run_1", of(a="string"), {"a": "x"})
    told = {"no run": {"prompt_runs": []}, "no schema": {"json_schemas": {}}}.get(changed)
    if told is None:
        (digest,) = deliver_by_0_1(deployment, run).provenance.json_schemas
        told = {"json_schemas": {digest: of(a="integer")}}
    deliver_by_0_1(deployment, run, **told)
    assert outgrown(deployment) == {"run_1"}


@pytest.mark.parametrize("schema", [True, {}, {"type": "string"}, of()], ids=str)
def test_a_prompt_without_a_schema_of_use_has_one_column_then_and_now(deployment, kept, schema):
    deliver_by_0_1(deployment, kept("run_1", schema, {"a": 1}), kept("run_2", schema, {"b": None}))
    assert outgrown(deployment) == set()


def test_the_documents_of_those_files_are_read(deployment, kept):
    videos = [{"video_id": "vid_1", "video_name": "Video", "metadata": {"summary": "All", "more": [1]}}]
    failed = {"video_id": "vid_1", "segment_id": "seg_9", "failure_message": "no"}
    taken = kept(
        "run_1",
        of(Name="string", name="string"),
        {"Name": "a", "name": "b", "undeclared": {"x": None}},
        video_level_schema=of(summary="string"),
        videos=videos,
        failures=[failed],
        status="completed_with_failures",
    )
    deliver_by_0_1(deployment, taken)
    found = {one.table: one.document for one in documents(deployment.destination())}
    assert found["segments"]["metadata"] == {"Name": "a", "name": "b", "undeclared": {"x": None}}
    assert found["videos"]["metadata"] == {"summary": "All", "more": [1]}
    assert found["failures"]["failure_message"] == "no"


def test_a_damaged_file_is_mended_with_the_columns_that_it_had(deployment, kept, give):
    runs = [kept(f"run_{n}", of(title="string"), {"title": str(n)}) for n in range(2)]
    deliver_by_0_1(deployment, *runs)
    (path,) = (file.path for file in read_log(deployment.destination()).runs["run_1"].files)
    deployment.connector.delete([deployment.destination().key(path)])
    delivery = give(*runs)
    assert [run.run_id for run in delivery.prompt_runs if run.written] == ["run_1"]
    assert outgrown(deployment) == set()
    assert verify(deployment.destination()).problems == ()
    assert len(table(deployment)[0]) == 1
