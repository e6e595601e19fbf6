"""Columns: what fits is typed, what does not is handed back, and null is told from absent."""

from decimal import Decimal

import pyarrow as pa
import pytest

from vv_exports.snapshots.columns import (
    Absence,
    Boolean,
    Integer,
    Json,
    List,
    Misfit,
    Number,
    Object,
    Text,
    Timestamp,
)


@pytest.mark.parametrize(
    ("column", "values", "stored"),
    [
        (Text(), ["a", "é", ""], ["a", "é", ""]),
        (Integer(), [1, -(2**63), 2**63 - 1], [1, -(2**63), 2**63 - 1]),
        (Integer(), [1, 5.0], [1, 5]),
        (Number(), [1, 2.5, 2**53], [1.0, 2.5, 2.0**53]),
        (Number(), [2**60], [2.0**60]),
        (Boolean(), [True, False], [True, False]),
        (Text(nullable=True), ["a", None], ["a", None]),
        (List(Integer()), [[], [1, 2], []], [[], [1, 2], []]),
        (List(Text(), nullable=True), [[], None, ["a"]], [[], None, ["a"]]),
        (Object({"a": Text(nullable=True)}), [{"a": "x"}, {"a": None}], [{"a": "x"}, {"a": None}]),
        (Object({"a": Text()}, nullable=True), [None, {}], [None, {"a": None}]),
        (Json(), [{"b": 1, "a": [None]}, None, "x"], ['{"a":[null],"b":1}', "null", '"x"']),
    ],
)
def test_what_fits_is_stored_with_its_type(column, values, stored):
    built = column.build(values)
    assert built.array.to_pylist() == stored
    assert built.array.type == column.arrow_type
    assert (built.misfits, built.absent) == ([], [])


@pytest.mark.parametrize(
    ("column", "misfit"),
    [
        (Text(), 5),
        (Text(), None),
        (Text(), "\ud800"),
        (Integer(), True),
        (Integer(), 2**63),
        (Integer(), -0.0),
        (Integer(), 5.5),
        (Integer(), 1e300),
        (Integer(), "5"),
        (Number(), 2**53 + 1),
        (Number(), 10**400),
        (Number(), False),
        (Number(), Decimal("1e400")),
        (Boolean(), 1),
        (Timestamp(), "soon"),
        (Timestamp(nullable=True), 0),
        (Timestamp(), None),
        (List(Text()), "abc"),
        (List(Text()), None),
        (Object({"a": Text()}), []),
        (Object({"a": Text()}), None),
    ],
)
def test_what_does_not_fit_is_a_typed_null_and_handed_back(column, misfit):
    filler = column.build([]).array.type
    built = column.build([misfit, misfit])
    assert built.array.to_pylist() == [None, None]
    assert built.array.type == filler
    assert [(type(m.value), m.value) for m in built.misfits] == [(type(misfit), misfit)] * 2
    assert [m[:2] for m in built.misfits] == [(0, ""), (1, "")]


def test_misfits_are_found_at_their_pointers():
    column = Object({"a/b": List(Object({"n~": Integer()}, nullable=True))})
    built = column.build(
        [
            {"a/b": []},
            {"a/b": "none"},
            {"a/b": [], "extra": None},
            {"a/b": [{"n~": 1}, None, {"n~": "x", "more": 1}, 7]},
        ]
    )
    assert sorted(built.misfits, key=lambda misfit: misfit[:2]) == [
        Misfit(1, "/a~1b", "none"),
        Misfit(2, "/extra", None),
        Misfit(3, "/a~1b/2/more", 1),
        Misfit(3, "/a~1b/2/n~0", "x"),
        Misfit(3, "/a~1b/3", 7),
    ]
    assert built.array.to_pylist()[3] == {"a/b": [{"n~": 1}, None, {"n~": None}, None]}


def test_absence_is_reported_only_where_a_typed_null_means_null():
    fields = {"nullable": Text(nullable=True), "never null": Text(), "json": Json()}
    column = Object({"people": List(Object(fields))})
    built = column.build([{"people": [{}, {"nullable": None, "never null": "x", "json": None}]}, {}])
    assert built.absent == [Absence(0, "/people/0/nullable")]
    assert built.misfits == []
    assert built.array.to_pylist() == [
        {
            "people": [
                {"nullable": None, "never null": None, "json": None},
                {"nullable": None, "never null": "x", "json": "null"},
            ]
        },
        {"people": None},
    ]


def test_absence_that_is_null_is_not_reported_and_says_nothing_of_inner_objects():
    inner = Object({"b": Text(nullable=True)}, nullable=True)
    column = Object({"a": inner, "t": Text(nullable=True)}, absence_is_null=True)
    assert column.build([{}, {"a": {}}]).absent == [Absence(1, "/a/b")]


def test_nothing_is_reported_below_what_is_null_or_a_misfit():
    column = Object({"a": Object({"b": Text(nullable=True)}, nullable=True)})
    built = column.build([{"a": None}, {"a": "x"}, {"a": {}}])
    assert built.misfits == [Misfit(1, "/a", "x")]
    assert built.absent == [Absence(2, "/a/b")]


def test_a_present_object_without_values_is_no_null():
    array = Object({"a": Text(nullable=True)}, nullable=True).build([{"a": None}, None, {}]).array
    assert array.is_null().to_pylist() == [False, True, False]


def test_a_property_that_no_document_has_is_a_column_of_nulls():
    column = Object({"a": List(Object({"b": Integer()})), "c": Text()})
    built = column.build([{"c": "x"}, {}])
    assert built.array.to_pylist() == [{"a": None, "c": "x"}, {"a": None, "c": None}]
    built.array.validate(full=True)
    assert column.build([]).array.type == column.arrow_type


def test_an_object_without_fields_has_no_column():
    with pytest.raises(ValueError, match="keep it as Json"):
        Object({}).build([{}])


def test_the_order_of_names_in_a_document_changes_nothing():
    column = Object({"a": Integer(), "b": Json()})
    one = column.build([{"a": 1, "b": {"x": 1, "y": 2}}])
    other = column.build([{"b": {"y": 2, "x": 1}, "a": 1}])
    assert one.array.equals(other.array)


def test_instants_are_read_in_utc():
    texts = ["2026-11-23T10:00:00Z", "2026-11-23T11:00:00.5+01:00", "2026-11-23 10:00:00", None]
    built = Timestamp(nullable=True).build(texts * 2)
    assert built.misfits == []
    assert built.array.cast(pa.int64()).to_pylist()[:4] == [
        1795428000000000,
        1795428000500000,
        1795428000000000,
        None,
    ]
