"""What breaks a prompt's schema is found, row by row, by columns or by the validator alike; no schema can hang it."""

import json
import socket
import threading
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.domain.json_text import encode_each_sorted
from vv_exports.snapshots.contract import contract_of
from vv_exports.snapshots.tables import table_of
from vv_exports_tests.snapshots.test_tables import RUN


def broken(schema: Any, *answers: Any) -> dict[int, list[tuple[str, str]]]:
    """The violated places and keywords of answers, by row."""
    contract = contract_of(schema)
    assert contract.problem is None, contract.problem
    documents = [{"segment_id": f"s{i}", "video_id": "v", "metadata": answer} for i, answer in enumerate(answers)]
    batch = table_of("segments", schema).batch(documents, RUN)
    texts = pa.array(encode_each_sorted(list(answers)), pa.string())
    found = contract.violations(batch, texts)
    for row, text in enumerate(texts):
        assert found.get(row, ()) == contract.violations_of(text.as_buffer()), "as the validator says"
    return {row: [(one.place, one.keyword) for one in of_row] for row, of_row in found.items()}


OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": ["calm", "tense"]},
        "age": {"type": ["integer", "null"], "minimum": 0},
        "people": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "seen": {"type": "number"}},
                "required": ["name"],
            },
        },
        "on": {"type": "string", "format": "date"},
        "note": {"type": "string", "nullable": True, "maxLength": 3},
    },
    "required": ["mood"],
}


def test_answers_that_keep_to_the_schema_are_not_reported():
    fine = {"mood": "calm", "age": None, "people": [{"name": "Ann", "seen": 1}], "on": "2026-11-26", "note": None}
    assert broken(OBJECT, fine, {"mood": "tense"}, {"mood": "calm", "people": []}) == {}


@pytest.mark.parametrize(
    ("answer", "place", "keyword"),
    [
        ({}, "/mood", "required"),
        ({"mood": "angry"}, "/mood", "enum"),
        ({"mood": None}, "/mood", "type"),
        ({"mood": "calm", "age": -1}, "/age", "minimum"),
        ({"mood": "calm", "age": "7"}, "/age", "type"),
        ({"mood": "calm", "age": 1.5}, "/age", "type"),
        ({"mood": "calm", "people": [{"name": "A"}, {"seen": 2}]}, "/people/*/name", "required"),
        ({"mood": "calm", "people": [{"name": "A"}, {"name": "b"}]}, "/people/*/name", "pattern"),
        ({"mood": "calm", "people": [{"name": "A"}] * 3}, "/people", "maxItems"),
        ({"mood": "calm", "people": [None]}, "/people/*", "type"),
        ({"mood": "calm", "on": "26.11.2026"}, "/on", "format"),
        ({"mood": "calm", "note": "four"}, "/note", "maxLength"),
    ],
)
def test_a_violation_names_its_place_and_its_keyword(answer, place, keyword):
    fine = {"mood": "calm"}
    assert (place, keyword) in broken(OBJECT, fine, answer, fine)[1]
    assert set(broken(OBJECT, fine, answer, fine)) == {1}


def test_what_is_told_of_a_violation_shows_no_value():
    contract = contract_of(
        {
            "additionalProperties": False,
            "properties": {"a": {"enum": ["x"], "type": "string", "maxLength": 1, "pattern": "^x", "format": "date"}},
        }
    )
    for answer in ({"a": "very secret"}, {"a": ["very secret"]}, {"a": {"b": "very secret"}}):
        told = contract.violations_of(json.dumps(answer).encode())
        assert told
        assert "secret" not in repr(told)


def test_a_property_that_is_not_allowed_is_of_the_place_of_its_object():
    (one,) = contract_of({"properties": {"a": {}}, "additionalProperties": False}).violations_of(b'{"x/y": 1}')
    assert (one.place, one.pointer) == ("", "/x~1y")


@pytest.mark.parametrize("text", [b'{"a": "\\ud83d"}', b'{"\\udc00": 1}', b'{"a": "\\\\ud83d"}'])
def test_half_of_a_surrogate_pair_is_checked_as_a_character(text):
    assert contract_of({"properties": {"a": {"type": "string"}}}).violations_of(text) == ()
    assert contract_of({"maxProperties": 0}).violations_of(text)


def test_an_answer_nested_deeper_than_is_checked_is_no_valid_one():
    deep = b'{"a":' * 700 + b"1" + b"}" * 700
    found = contract_of({"type": "object", "additionalProperties": {"$ref": "#"}}).violations_of(deep)
    assert found, "its innermost value is no schema's"


def test_a_reference_is_of_the_resource_in_which_it_stands():
    inner = {"$id": "urn:example:a", "$ref": "#/$defs/b", "$defs": {"b": {"type": "string"}}}
    contract = contract_of({"$ref": "urn:example:a", "$defs": {"a": inner}})
    assert contract.violations_of(b"5")
    assert not contract.violations_of(b'"text"')


def test_numbers_beyond_doubles_are_checked_to_the_digit():
    contract = contract_of({"properties": {"a": {"maximum": 9007199254740993}}})
    assert contract.violations_of(b'{"a": 9007199254740994}')
    assert not contract.violations_of(b'{"a": 9007199254740993}')


class Listener:
    """A local server that counts who asks it for a schema."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.asked = 0
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()


CHAIN = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {}}
IN_DEPTH = {f"d{i}": {"allOf": [{"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}}] * 2} for i in range(40)} | {
    "d40": {}
}
TWICE = {"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}
DEEP: dict[str, Any] = {}
for _ in range(500):
    DEEP = {"not": DEEP}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "http://127.0.0.1:{port}/schema.json"}, "leads out"),
        ({"properties": {"a": {"$ref": "file:///etc/hostname"}}}, "leads out"),
        ({"$id": "http://127.0.0.1:{port}/", "$ref": "other.json"}, "leads out"),
        ({"$schema": "http://127.0.0.1:{port}/draft"}, "none that documents"),
        ({"$defs": CHAIN, "$ref": "#/$defs/d0"}, "too large"),
        ({"$defs": IN_DEPTH, "$ref": "#/$defs/d0"}, "too large"),
        (TWICE, "more than once"),
        ({"$ref": "#"}, "contains itself"),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}, "contains itself"),
        ({"properties": {f"p{i}": {"type": "string", "description": "x" * 60} for i in range(80_000)}}, "too large"),
        (DEEP, "deeper"),
        ({"pattern": "("}, "none that documents"),
        ({"pattern": "(a{1000}){1000}"}, "none that documents"),
        ({"type": 5}, "none that documents"),
        ({"$ref": "#/nowhere"}, "no schema"),
        ({"$ref": 5}, "no text"),
        ({"$ref": "http://[::1"}, "leads out"),
        ({"$id": "http://[::1", "$ref": "#/$defs/a", "$defs": {"a": {}}}, "no address"),
        ([], "none that documents"),
        (None, "none that documents"),
        ("text", "none that documents"),
    ],
)
def test_a_schema_without_a_bound_is_not_checked_against_and_nothing_is_fetched(schema, reason):
    listener = Listener()
    schema = json.loads(json.dumps(schema).replace("{port}", str(listener.port)))
    contract = contract_of(schema)
    assert contract.problem is not None
    assert reason in contract.problem
    assert contract.violations(pa.record_batch({"metadata": ["x"]}), pa.array(["{}"])) == {}
    assert listener.asked == 0
    listener.socket.close()


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", r"^(?=(a+)+$)(a|aa)+\1+$", r"^(.*a){20}$"])
def test_no_pattern_hangs_the_check(pattern):
    answer = json.dumps({"a": "a" * 50_000 + "!"}).encode()
    assert contract_of({"properties": {"a": {"pattern": pattern}}}).violations_of(answer)


def test_a_recursive_schema_is_checked_where_it_looks_at_each_value_once():
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}},
                "additionalProperties": False,
            }
        },
    }
    contract = contract_of(tree)
    assert contract.violations_of(b'{"left": {"right": {}}, "right": {"left": {}}}') == ()
    assert contract.violations_of(b'{"left": {"right": {"x": 1}}}')


SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0, 2.5, "", "a", "ab", "b1", "é"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", ["string", "null"], ["integer", "null"]])},
        optional={
            "enum": st.lists(SCALARS, min_size=1, max_size=3),
            "minimum": st.sampled_from([0, 1, 0.5]),
            "exclusiveMaximum": st.sampled_from([2, 1.5]),
            "minLength": st.just(1),
            "maxLength": st.just(1),
            "pattern": st.sampled_from(["^a", "[0-9]$"]),
            "multipleOf": st.sampled_from([2, 0.5]),
            "const": SCALARS,
            "nullable": st.booleans(),
            "format": st.sampled_from(["date", "unheard-of"]),
        },
    )
    | st.just({"type": "object"})
    | st.just({"type": ["array", "null"]})
    | st.just({}),
    lambda inner: (
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["object", ["object", "null"]]),
                "properties": st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
            },
            optional={
                "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
                "additionalProperties": st.booleans(),
            },
        )
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["array", ["array", "null"]]), "items": inner},
            optional={"minItems": st.just(1), "maxItems": st.just(2)},
        )
        | st.fixed_dictionaries({"anyOf": st.tuples(inner, st.just({"type": "null"})).map(list)})
    ),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    properties=st.dictionaries(st.sampled_from("abc"), SCHEMAS, min_size=1),
    required=st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    answers=st.lists(st.dictionaries(st.sampled_from("abcd"), VALUES), min_size=1, max_size=12),
)
def test_what_columns_prove_is_what_the_validator_says(properties, required, answers):
    broken({"type": "object", "properties": properties, "required": required}, *answers)
