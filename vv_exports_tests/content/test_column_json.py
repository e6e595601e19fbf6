"""Columns told as JSON: every one comes back, in its order; what tells no column is refused with its place."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.content.column_json import column_from_json, column_id, column_to_json
from vv_exports.snapshots.columns import Boolean, Integer, Json, List, Number, Object, Text, Timestamp

_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_COLUMNS = st.recursive(
    st.builds(Json, reason=st.text(max_size=5), allows=st.sampled_from(["anything", "mixed"]), nullable=st.booleans())
    | st.sampled_from([Text, Integer, Number, Boolean, Timestamp]).flatmap(
        lambda kind: st.builds(kind, nullable=st.booleans())
    ),
    lambda inner: (
        st.builds(List, inner, nullable=st.booleans())
        | st.builds(
            Object,
            st.dictionaries(_NAMES, inner, min_size=1, max_size=3),
            nullable=st.booleans(),
            absence_is_null=st.booleans(),
            left_out=st.dictionaries(_NAMES, st.text(max_size=5), max_size=1),
        )
    ),
    max_leaves=6,
)


@given(_COLUMNS)
def test_every_column_comes_back_whoever_sorts_the_names_of_the_json(column):
    told = json.loads(json.dumps(column_to_json(column), sort_keys=True))
    back = column_from_json(told)
    assert repr(back) == repr(column), "what is not compared and the order of fields included"
    assert column_id(back) == column_id(column)


def test_a_column_is_told_readably():
    column = Object({"title": Text(nullable=True), "tags": List(Json(reason="why", allows="anything"))})
    assert column_to_json(column) == {
        "type": "object",
        "fields": [
            {"name": "title", "type": "string", "nullable": True},
            {"name": "tags", "type": "list", "item": {"type": "json", "reason": "why", "allows": "anything"}},
        ],
    }


def test_an_id_is_of_what_is_in_files_and_not_of_the_reasons():
    one = Object({"a": Json(reason="x", allows="mixed"), "b": Text()}, left_out={"B": "because"})
    assert column_id(one) == column_id(Object({"a": Json(reason="y", allows="array", nullable=False), "b": Text()}))
    others = [
        Object({"b": Text(), "a": Json()}),
        Object({"a": Json(), "b": Text(nullable=True)}),
        Object({"a": Text(), "b": Text()}),
        Object({"a": Json(), "b": List(Text())}),
        Object({"a": Json(), "b": Text()}, nullable=True),
    ]
    assert len({column_id(column) for column in [one, *others]}) == 1 + len(others)
    assert column_id(Text()) == "00404e686415370f", "an id in a log stays what it was"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "at the top: it is no JSON object"),
        ("string", "at the top: it is no JSON object"),
        ({}, "its type is None"),
        ({"type": "decimal"}, "its type is 'decimal'"),
        ({"type": ["string"]}, "its type is ['string']"),
        ({"type": "string", "nullable": 1}, "nullable is 1"),
        ({"type": "json", "reason": 5}, "reason is 5"),
        ({"type": "json", "allows": "much"}, "allows is 'much'"),
        ({"type": "list"}, "at /item: it is no JSON object"),
        ({"type": "object"}, "fields is no list of columns"),
        ({"type": "object", "fields": []}, "fields is no list of columns"),
        ({"type": "object", "fields": ["a"]}, "at /fields/0: name is None"),
        ({"type": "object", "fields": [{"type": "string"}]}, "at /fields/0: name is None"),
        ({"type": "object", "fields": [{"name": "a", "type": "list", "item": {}}]}, "at /fields/0/item: its type"),
        ({"type": "object", "fields": [{"name": "a", "type": "string"}] * 2}, "/fields/1: the name 'a' is there twice"),
        ({"type": "object", "fields": [{"name": "a", "type": "string"}], "left_out": 1}, "left_out is no JSON object"),
    ],
)  # fmt: skip
def test_what_tells_no_column_is_refused_with_its_place(value, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        column_from_json(value)
