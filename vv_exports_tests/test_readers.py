"""Readers of a collection have every row with its value, whatever became of the prompt's schema: each reads as
``docs/reading-deliveries.md`` and ``docs/formats.md`` tell it to."""

import json
from dataclasses import dataclass
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.reading import documents_in
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.conftest import NOW, TEAM, Deployment

EXACT = 2**53 + 1


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


@dataclass(frozen=True)
class Change:
    """Two schemas of a prompt, and what a run answered by each."""

    old: dict[str, Any]
    old_answers: list[dict[str, Any]]
    new: dict[str, Any]
    new_answers: list[dict[str, Any]]
    conflict: bool = False

    @property
    def answers(self) -> dict[tuple[str, str], dict[str, Any]]:
        both = {"run_1": self.old_answers, "run_2": self.new_answers}
        return {(run, f"seg_{n:05}"): one for run, answers in both.items() for n, one in enumerate(answers)}


CHANGES = {
    "property added": Change(
        of(a=STRING), [{"a": "x"}, {"a": ""}], of(a=STRING, b=INTEGER), [{"a": "y", "b": EXACT}, {"b": 2}, {"a": "z"}]
    ),
    "property removed": Change(
        of(a=STRING, b=INTEGER), [{"a": "x", "b": EXACT}, {"b": 1}], of(a=STRING), [{"a": "y"}, {"a": ""}]
    ),
    "property added in a list": Change(
        of(people={"type": "array", "items": of(name=STRING)}),
        [{"people": [{"name": "Ada"}, {"name": ""}]}, {"people": []}],
        of(people={"type": "array", "items": of(name=STRING, age=INTEGER)}),
        [{"people": [{"name": "Bo", "age": 7}]}, {"people": [{"age": EXACT}]}],
    ),
    "integer to number": Change(of(a=INTEGER), [{"a": 1}, {"a": EXACT}], of(a=NUMBER), [{"a": 1.5}, {"a": -0.25}]),
    "number to integer": Change(of(a=NUMBER), [{"a": 1.5}, {"a": -0.25}], of(a=INTEGER), [{"a": 1}, {"a": EXACT}]),
    "integer to string": Change(
        of(a=INTEGER, b=STRING), [{"a": 1, "b": "x"}], of(a=STRING, b=STRING), [{"a": "Rome"}, {"a": "1"}], True
    ),
    "scalar to object": Change(
        of(a=STRING, b=STRING), [{"a": "wide", "b": "x"}], of(a=of(type=STRING, mm=NUMBER), b=STRING),
        [{"a": {"type": "wide", "mm": 35.5}, "b": "y"}, {"a": {"type": "close"}}], True,
    ),
    "nullable": Change(
        of(a=INTEGER), [{"a": 1}], of(a={"type": ["integer", "null"]}), [{"a": None}, {"a": 2}]
    ),
    "case twin": Change(
        of(title=STRING), [{"title": "a"}],
        of(title=STRING, Title=STRING), [{"title": "b", "Title": "B"}, {"Title": "C"}],
    ),
}  # fmt: skip

CASES = [
    pytest.param(name, policy, id=f"{name}, {policy}")
    for name, change in CHANGES.items()
    for policy in (("new_version", "text") if change.conflict else ("new_version",))
]


class Collection:
    """A collection of two runs of a prompt whose schema changed between them."""

    def __init__(self, folder, change, format_name, policy):
        self.deployment = Deployment(folder)
        self.folder = folder / "deliveries" / TEAM
        self.format_name = format_name
        self._options = {"on_schema_conflict": policy}
        self._snapshots = [
            self.deployment.snapshot(
                run, schema=schema, segments=[segment(n, metadata=one) for n, one in enumerate(answers)]
            )
            for run, schema, answers in (
                ("run_1", change.old, change.old_answers),
                ("run_2", change.new, change.new_answers),
            )
        ]

    def give(self, *which):
        for number in which:
            request = self.deployment.request(
                self._snapshots[number - 1], format_name=self.format_name, options=self._options
            )
            deliver(request, self.deployment.store, lambda: NOW)

    def tables(self):
        """What the log says of each folder: its columns, as the last entry that delivered there told them."""
        return {
            told.folder: told
            for entry in entries_since(self.deployment.destination(), 0)
            for told in entry.tables
            if told.table == "segments"
        }


# Readers of a prompt's folder. Each gives rows: dicts of columns, as the documented call gives them.


def duckdb_parquet(folder):
    return duckdb.sql(f"select * from read_parquet('{folder}/**')").to_arrow_table().to_pylist()


def polars_parquet(folder):
    return pl.read_parquet(f"{folder}/**/*.parquet").to_dicts()


def pandas_parquet(folder):
    frame = pd.read_parquet(folder, partitioning=None, dtype_backend="pyarrow")
    return [
        {name: None if value is pd.NA else value for name, value in row.items()} for row in frame.to_dict("records")
    ]


def pyarrow_parquet(folder):
    return ds.dataset(str(folder), format="parquet").to_table().to_pylist()


def _resolved(kind, name):
    """The one name that is this one where case is ignored, as Spark resolves it; it refuses two."""
    (found,) = [field.name for field in kind if field.name.lower() == name.lower()]
    return found


def _unambiguous(kind):
    if pa.types.is_struct(kind):
        for field in kind:
            assert _resolved(kind, field.name.upper()) == field.name
            _unambiguous(field.type)
    elif pa.types.is_list(kind):
        _unambiguous(kind.value_type)


def ignoring_case(folder):
    """A reader that ignores case in names, as Spark does by default, and refuses a table with two that are the same."""
    table = ds.dataset(str(folder), format="parquet").to_table()
    for field in table.schema:
        assert _resolved(table.schema, field.name.upper()) == field.name
        _unambiguous(field.type)
    return table.to_pylist()


PARQUET = [duckdb_parquet, polars_parquet, pandas_parquet, pyarrow_parquet, ignoring_case]


def duckdb_csv(folder):
    return (
        duckdb.sql(
            f"""select * from read_csv('{folder}/**/*.csv', header = true, delim = ',', all_varchar = true,
            quote = '"', escape = '"', comment = '', skip = 0, allow_quoted_nulls = false,
            max_line_size = 268435456)"""
        )
        .to_arrow_table()
        .to_pylist()
    )


def polars_csv(folder):
    return pl.read_csv(f"{folder}/**/*.csv", infer_schema=False).to_dicts()


def pandas_csv(folder):
    frames = [pd.read_csv(file, dtype=str, keep_default_na=False) for file in sorted(folder.rglob("*.csv"))]
    return pd.concat(frames).to_dict("records")


CSV = [duckdb_csv, polars_csv, pandas_csv]


def duckdb_jsonl(folder):
    found = duckdb.sql(
        f"""select * from read_json('{folder}/**/*.jsonl.zst', maximum_object_size = 268435456,
        columns = {{prompt_run_id: 'VARCHAR', segment_id: 'VARCHAR', metadata: 'JSON'}})"""
    )
    return [{**row, "metadata": json.loads(row["metadata"])} for row in found.to_arrow_table().to_pylist()]


def pandas_jsonl(folder):
    files = sorted(folder.rglob("*.jsonl.zst"))
    return pd.concat([pd.read_json(file, lines=True, dtype=False) for file in files]).to_dict("records")


JSONL = [duckdb_jsonl, pandas_jsonl]


# What rows say of each answer, as the pages tell it.


def _value(typed, told, pointer, rescued):
    """A place's value: what is rescued of it, else its column's; text of a column that is JSON is decoded."""
    if pointer in rescued:
        return rescued[pointer]
    if typed is None:
        return None
    match told["type"]:
        case "json":
            return json.loads(typed)
        case "object":
            of_it = {
                one["name"]: _value(typed.get(one["name"]), one, f"{pointer}/{one['name']}", rescued)
                for one in told["fields"]
            }
            beside = {
                key.rpartition("/")[2]: value for key, value in rescued.items() if key.rpartition("/")[0] == pointer
            }
            return _without_nulls({**of_it, **beside})
        case "list":
            items = enumerate(list(typed))
            return [_value(item, told["item"], f"{pointer}/{number}", rescued) for number, item in items]
    return typed


def _without_nulls(value):
    if isinstance(value, dict):
        found = {name: _without_nulls(item) for name, item in value.items()}
        return {name: item for name, item in found.items() if item is not None and item != {}}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


_CELLS = {
    "integer": int,
    "number": json.loads,
    "boolean": "true".__eq__,
    "string": str,
    "json": str,
    "list": json.loads,
}


def _unflat(row, told, name):
    """A typed value of the cells of a CSV row, converted as its column in the log entry says."""
    if told["type"] == "object":
        return {one["name"]: _unflat(row, one, f"{name}.{one['name']}") for one in told["fields"]}
    return (
        None if row[name] is None or (row[name] == "" and told["type"] != "string") else _CELLS[told["type"]](row[name])
    )


def answers_of(rows, told):
    found = {}
    for row in rows:
        assert (row["prompt_run_id"], row["segment_id"]) not in found
        if told.columns is None:
            answer = row["metadata"]
        else:
            column = told.columns["metadata"]
            metadata = row["metadata"] if "metadata" in row else _unflat(row, column, "metadata")
            answer = _value(metadata, column, "/metadata", json.loads(row["rescued"] or "{}"))
        found[row["prompt_run_id"], row["segment_id"]] = _without_nulls(answer)
    return found


def expected(change):
    return {where: _without_nulls(answer) for where, answer in change.answers.items()}


def read_all(collection, read):
    """Every answer, read by the folders that the log tells of."""
    found = {}
    for folder, told in collection.tables().items():
        found |= answers_of(read(collection.folder / folder / "prompt_id=prm"), told)
    return found


@pytest.fixture(scope="module")
def reshaped(tmp_path_factory):
    """Collections after the reshape; each is made once."""
    made = {}

    def reshaped(name, format_name, policy):
        if (name, format_name, policy) not in made:
            one = Collection(tmp_path_factory.mktemp("readers"), CHANGES[name], format_name, policy)
            one.give(1, 2, 1)
            made[name, format_name, policy] = one
        return made[name, format_name, policy]

    return reshaped


def differing(found, wanted):
    return {where: (found.get(where), wanted.get(where)) for where in found.keys() | wanted.keys()
            if found.get(where) != wanted.get(where)}  # fmt: skip


@pytest.mark.parametrize(("name", "policy"), CASES)
@pytest.mark.parametrize("read", PARQUET)
def test_every_reader_of_parquet_has_every_row_with_its_value(reshaped, read, name, policy):
    assert differing(read_all(reshaped(name, "parquet", policy), read), expected(CHANGES[name])) == {}


@pytest.mark.parametrize(("name", "policy"), CASES)
@pytest.mark.parametrize("read", CSV)
def test_every_reader_of_csv_has_every_row_with_its_value(reshaped, read, name, policy):
    found, wanted = read_all(reshaped(name, "csv", policy), read), expected(CHANGES[name])
    if read is pandas_csv:  # The page says so: pandas cannot tell an empty cell from an empty string.
        found, wanted = ({k: _without_empty(v) for k, v in one.items()} for one in (found, wanted))
    assert differing(found, wanted) == {}


def _without_empty(answer):
    return {name: value for name, value in answer.items() if value != ""}


@pytest.mark.parametrize(("name", "policy"), CASES)
@pytest.mark.parametrize("read", JSONL)
def test_every_reader_of_json_lines_has_every_row_with_its_value(reshaped, read, name, policy):
    assert differing(read_all(reshaped(name, "jsonl", policy), read), expected(CHANGES[name])) == {}


# Between the entry of a run with another schema and the entries that reshape the others.


def duckdb_parquet_by_name(folder):
    return duckdb.sql(f"select * from read_parquet('{folder}/**', union_by_name = true)").to_arrow_table().to_pylist()


def polars_concatenated(folder):
    frames = [pl.read_parquet(file) for file in sorted(folder.rglob("*.parquet"))]
    return pl.concat(frames, how="diagonal_relaxed").to_dicts()


def pyarrow_unified(folder):
    fragments = ds.dataset(str(folder), format="parquet").get_fragments()
    schema = pa.unify_schemas([fragment.physical_schema for fragment in fragments], promote_options="permissive")
    return ds.dataset(str(folder), schema=schema, format="parquet").to_table().to_pylist()


def duckdb_csv_by_name(folder):
    return (
        duckdb.sql(
            f"""select * from read_csv('{folder}/**/*.csv', header = true, delim = ',', all_varchar = true,
            quote = '"', escape = '"', comment = '', skip = 0, allow_quoted_nulls = false,
            max_line_size = 268435456, union_by_name = true)"""
        )
        .to_arrow_table()
        .to_pylist()
    )


def polars_csv_concatenated(folder):
    frames = [pl.read_csv(file, infer_schema=False) for file in sorted(folder.rglob("*.csv"))]
    return pl.concat(frames, how="diagonal_relaxed").to_dicts()


BETWEEN = [
    pytest.param(read, form, name, id=f"{read.__name__}, {name}")
    for form, readers in (
        ("parquet", [duckdb_parquet_by_name, polars_concatenated, pyarrow_unified]),
        ("csv", [duckdb_csv_by_name, polars_csv_concatenated]),
        ("jsonl", [duckdb_jsonl]),
    )
    for read in readers
    for name, change in CHANGES.items()
    if not change.conflict
]


@pytest.fixture(scope="module")
def between(tmp_path_factory):
    """Collections whose first run has not been reshaped yet; each is made once."""
    made = {}

    def between(name, format_name):
        if (name, format_name) not in made:
            one = Collection(tmp_path_factory.mktemp("between"), CHANGES[name], format_name, "new_version")
            one.give(1, 2)
            made[name, format_name] = one
        return made[name, format_name]

    return between


@pytest.mark.parametrize(("read", "format_name", "name"), BETWEEN)
def test_before_the_reshape_readers_that_go_by_name_lose_nothing(between, read, format_name, name):
    collection = between(name, format_name)
    folder, (told,) = collection.folder / "segments/prompt_id=prm", collection.tables().values()
    rounded = name == "integer to number" and format_name == "parquet"
    if rounded and read is pyarrow_unified:
        with pytest.raises(pa.ArrowInvalid, match=str(EXACT)):
            read(folder)
        return
    wanted = expected(CHANGES[name])
    if rounded:  # The page says so: what was an integer is a double to them, until the files are reshaped.
        wanted["run_1", "seg_00001"] = {"a": float(EXACT)}
    assert differing(answers_of(read(folder), told), wanted) == {}


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if not change.conflict])
def test_before_the_reshape_a_reader_of_the_log_has_every_value_run_by_run(between, name):
    collection = between(name, "parquet")
    found = {}
    for held in read_log(collection.deployment.destination()).runs.values():
        (entry,) = [
            one for one in entries_since(collection.deployment.destination(), 0) if one.sequence == held.entry.sequence
        ]
        (told,) = [one for one in entry.tables if one.folder == "segments"]
        for file in held.files:
            found |= answers_of(pq.ParquetFile(collection.folder / file.path).read().to_pylist(), told)
    assert differing(found, expected(CHANGES[name])) == {}


@pytest.mark.parametrize("read", [duckdb_parquet, pyarrow_parquet])
def test_before_the_reshape_a_reader_that_does_not_go_by_name_loses_the_new_property(between, read):
    """Why the page says to go by name: this is what it warns of."""
    rows = read(between("property added", "parquet").folder / "segments/prompt_id=prm")
    assert {name for row in rows for name in row["metadata"]} == {"a"}


# A table that has several versions, in one query.


def duckdb_versions(folder):
    parts = [
        f"select prompt_run_id, segment_id, to_json(metadata) as metadata, rescued from read_parquet('{one}/**')"
        for one in sorted(folder.glob("segments*/prompt_id=prm"))
    ]
    return duckdb.sql(" union all by name ".join(parts)).to_arrow_table().to_pylist()


def polars_versions(folder):
    frames = [
        pl.read_parquet(one / "**/*.parquet").with_columns(pl.col("metadata").struct.json_encode())
        for one in sorted(folder.glob("segments*/prompt_id=prm"))
    ]
    return pl.concat(frames, how="diagonal_relaxed").to_dicts()


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change.conflict])
@pytest.mark.parametrize("read", [duckdb_versions, polars_versions])
def test_versions_of_a_table_are_read_together_as_json(reshaped, read, name):
    collection = reshaped(name, "parquet", "new_version")
    assert sorted(one.name for one in collection.folder.glob("segments*")) == ["segments", "segments.v2"]
    rows = read(collection.folder)
    assert [row["rescued"] for row in rows] == [None] * len(rows)
    found = {(row["prompt_run_id"], row["segment_id"]): _without_nulls(json.loads(row["metadata"])) for row in rows}
    assert differing(found, expected(CHANGES[name])) == {}


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change.conflict])
@pytest.mark.parametrize("format_name", ["csv", "jsonl"])
def test_versions_of_a_table_of_text_are_read_together(reshaped, name, format_name):
    collection = reshaped(name, format_name, "new_version")
    read = {"csv": duckdb_csv_by_name, "jsonl": duckdb_jsonl}[format_name]
    pattern = f"{collection.folder}/segments*/prompt_id=prm"
    assert len(read(pattern)) == len(CHANGES[name].answers)


# Our own reader.


@pytest.mark.parametrize(("name", "policy"), CASES)
@pytest.mark.parametrize("format_name", ["parquet", "csv", "jsonl", "json"])
def test_our_reader_gives_the_documents_back(reshaped, name, policy, format_name):
    collection = reshaped(name, format_name, policy)
    found = {
        (one.prompt_run_id, one.document["segment_id"]): one.document["metadata"]
        for one in documents_in(collection.folder)
    }
    assert differing(found, CHANGES[name].answers) == {}
