"""The rows of a snapshot under other columns: what a snapshot of the same documents would have under these."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.content.retyping import retyped
from vv_exports.content.union import join
from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.prompt_runs import PromptRun, RunStatus
from vv_exports.snapshots.columns import Object
from vv_exports.snapshots.tables import Table, table_of
from vv_exports_tests.generated_documents import ROOTS, VALUES, documents_like

RUN = PromptRun("run_1", "idx", "prm", "Mood", RunStatus.COMPLETED, datetime(2026, 10, 1, tzinfo=UTC), {})


def _answers(documents):
    texts = [encode_sorted(document["metadata"]) if "metadata" in document else None for document in documents]
    return pa.array(texts, pa.string())


def _joined(own, *schemas):
    """The table of a prompt whose runs had these schemas."""
    column = own.column.fields["metadata"]
    for schema in schemas:
        column = join(column, table_of("segments", schema).column.fields["metadata"]).column
    return Table("segments", Object({**own.column.fields, "metadata": column}, absence_is_null=True))


def _object(**properties):
    return {"type": "object", "properties": properties}


@st.composite
def _results(draw, schema):
    document = {"video_id": "v", "start_time": draw(st.sampled_from([1, 2.5, "soon", None]))}
    if draw(st.integers(0, 9)):
        document["metadata"] = draw(documents_like(schema))
    if not draw(st.integers(0, 3)):
        document["unknown"] = draw(VALUES)
    return document


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_are_what_the_documents_would_have_given(data):
    schema, *others = data.draw(ROOTS), data.draw(ROOTS), data.draw(ROOTS)
    own = table_of("segments", schema)
    documents = data.draw(st.lists(_results(schema), max_size=6))
    batch = own.batch(documents, RUN)
    for wanted in (_joined(own, *others), table_of("segments", others[0]), own):
        found = retyped(batch, _answers(documents), own, wanted)
        found.validate(full=True)
        assert found.equals(wanted.batch(documents, RUN), check_metadata=True)
        assert found.to_pylist() == wanted.batch(documents, RUN).to_pylist(), "NaN is nowhere; -0.0 is another text"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_without_answers_are_what_their_own_documents_would_have_given(data):
    schema, other = data.draw(ROOTS), data.draw(ROOTS)
    own = table_of("segments", schema)
    wanted = _joined(own, other)
    batch = own.batch(data.draw(st.lists(_results(schema), max_size=6)), RUN)
    assert retyped(batch, None, own, wanted).equals(wanted.batch(own.documents(batch), RUN))


def test_an_added_property_is_null_in_the_rows_of_a_run_that_had_none_and_absent_where_null_is_a_value():
    own = table_of("segments", _object(a={"type": "string"}))
    wanted = _joined(own, _object(b={"type": "string"}, c={"type": ["string", "null"]}))
    batch = own.batch([{"metadata": {"a": "x", "d": 1}}, {}], RUN)
    found = retyped(batch, None, own, wanted)
    assert found["metadata"].to_pylist() == [{"a": "x", "b": None, "c": None}, None]
    assert found["rescued"].to_pylist() == ['{"/metadata/d":1}', None]
    assert found["absent"].to_pylist() == [["/metadata/c"], None]


def test_what_was_rescued_is_in_its_column_once_there_is_one():
    own = table_of("segments", _object(a={"type": "integer"}))
    wanted = _joined(own, _object(b={"type": "string"}, a={"type": "number"}))
    documents = [{"start_time": "soon", "metadata": {"a": 1.5, "b": "x"}}, {"metadata": {"a": 2**53 + 1}}]
    found = retyped(own.batch(documents, RUN), _answers(documents), own, wanted)
    assert found["metadata"].to_pylist() == [{"a": 1.5, "b": "x"}, {"a": None, "b": None}]
    assert found["rescued"].to_pylist() == ['{"/start_time":"soon"}', '{"/metadata/a":9007199254740993}']


def test_rows_that_have_the_wanted_columns_are_left_alone():
    own = table_of("segments", _object(a={"type": "integer"}))
    batch = own.batch([{"metadata": {"a": 1}}], RUN)
    assert retyped(batch, None, own, table_of("segments", _object(a={"type": "integer"}))) is batch
    failures = table_of("failures", None)
    batch = failures.batch([{"video_id": "v"}], RUN)
    assert retyped(batch, None, failures, failures) is batch


def test_another_order_of_fields_is_another_shape():
    own = table_of("segments", _object(a={"type": "integer"}, b={"type": "integer"}))
    wanted = table_of("segments", _object(b={"type": "integer"}, a={"type": "integer"}))
    documents = [{"metadata": {"a": 1, "b": 2}}]
    found = retyped(own.batch(documents, RUN), None, own, wanted)
    assert found.equals(wanted.batch(documents, RUN))


def test_the_rows_of_one_table_cannot_be_those_of_another():
    segments, videos = table_of("segments", _object(a={"type": "integer"})), table_of("videos", {})
    with pytest.raises(ValueError, match="differ in more than metadata"):
        retyped(segments.batch([], RUN), None, segments, videos)
