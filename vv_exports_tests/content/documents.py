"""Random schemas and documents of a prompt run, and their way through the files of a format."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from hypothesis import strategies as st

from vv_exports.content.encoding import encoding_of
from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.prompt_runs import JsonObject, PromptRun
from vv_exports.formats.registry import format_of
from vv_exports.snapshots.tables import Table, prepare, table_of

RUN = PromptRun("run_1", "idx_1", "prm_1", "Prompt", "completed", datetime(2026, 11, 23, tzinfo=UTC), {})

NAMES = st.sampled_from(["a", "b", "a/b", "~", "x.y", "é", "0", "[]", 'say "a"', "-1", "=a", "metadata", " "])
OTHER_NAMES = NAMES | st.sampled_from(["undeclared", "\ud800", "c", ""])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**53 + 1, 2**63, -(2**63), 10**30, 5.0, -0.0, 1e300, Decimal("1e400"), "\ud800", "null"])
    | st.sampled_from(["", "=1+1", "-5", "'=a", "''@b", "'", "\t", "\r\n", "a;b", "[1]", "{", '"', "true", "007"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OTHER_NAMES, inner, max_size=3),
    max_leaves=6,
)


def _nullable(schema):
    return st.sampled_from([schema, {"anyOf": [schema, {"type": "null"}]}, {**schema, "nullable": True}])


_SCHEMAS = st.recursive(
    st.sampled_from(["string", "integer", "number", "boolean"]).map(lambda name: {"type": name})
    | st.just({})
    | st.just({"type": "object"}),
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items}),
        st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(lambda p: {"type": "object", "properties": p}),
    ).flatmap(_nullable),
    max_leaves=8,
)
ROOTS = st.dictionaries(NAMES, _SCHEMAS, min_size=1, max_size=4).map(
    lambda properties: {"type": "object", "properties": properties}
) | st.just({})


@st.composite
def like(draw, schema):
    """A value that mostly, but not always, conforms to the schema."""
    if draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    if "properties" in schema:
        present = {name: draw(like(part)) for name, part in schema["properties"].items() if draw(st.integers(0, 2))}
        return {**present, **(draw(st.dictionaries(OTHER_NAMES, VALUES, max_size=1)) if draw(st.booleans()) else {})}
    if "items" in schema:
        return draw(st.lists(like(schema["items"]), max_size=3))
    plain = {"string": SCALARS.filter(lambda v: isinstance(v, str)), "integer": st.integers(), "boolean": st.booleans()}
    plain["number"] = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
    return draw(plain.get(schema.get("type"), VALUES))


_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "video_id": st.sampled_from(["0001", "-5", "=x"]) | st.none() | VALUES,
        "start_time": st.floats(0, 9) | st.integers() | VALUES,
        "executed_at": st.sampled_from(["2026-11-23T11:00:00.25+01:00", "0001-01-01T00:00:00Z", "today", None, 5]),
        "field_extraction_succeeded": st.booleans() | VALUES,
        "failed_operations": st.lists(st.sampled_from(["a", None, 1]), max_size=3) | VALUES,
        "prompt_run_id": st.sampled_from(["run_1", "run_2", 7]),
        "index_id": VALUES,
        "stated_index_id": VALUES,
        "stated_stated_prompt_id": VALUES,
        "stated_x": VALUES,
        "rescued": VALUES,
        "absent": VALUES,
        "": VALUES,
        "\ud800": VALUES,
    },
)


@st.composite
def results(draw):
    """A table, and documents of its run, prepared."""
    name = draw(st.sampled_from(["segments", "videos", "failures"]))
    schema = draw(ROOTS)
    metadata = st.fixed_dictionaries({}, optional={"metadata": like(schema)})
    documents = draw(st.lists(st.builds(lambda one, other: {**one, **other}, _FIELDS, metadata), max_size=4))
    prepare(documents, RUN, name)
    return table_of(name, schema), documents


def answers_of(documents: list[JsonObject]) -> pa.StringArray:
    """The JSON text of each document's ``metadata``, as an encoding takes it."""
    return pa.array([encode_sorted(one["metadata"]) if "metadata" in one else None for one in documents], pa.string())


def through_a_file(table: Table, documents: list[JsonObject], options: ContentOptions) -> list[JsonObject]:
    """The documents, written and read again."""
    with TemporaryDirectory() as folder:
        encoding, form = encoding_of(options.format, table), format_of(options)
        path = Path(folder) / f"x{form.suffix}"
        with form.open(path, encoding.schema) as writer:
            if documents:
                writer.write(encoding.rows(table.batch(documents, RUN), answers_of(documents)))
        return [one for batch in form.read(path, encoding.schema) for one in encoding.documents(batch)]


def options(name: str, **chosen: object) -> ContentOptions:
    """Those of a format alone."""
    return ContentOptions(FormatOptions(name, **chosen))


def strict(value):
    """Tells 5 from 5.0 and True from 1; Decimals and doubles by their digits."""
    match value:
        case dict():
            return {name: strict(inner) for name, inner in value.items()}
        case list():
            return list(map(strict, value))
        case _:
            return (type(value), repr(value))
