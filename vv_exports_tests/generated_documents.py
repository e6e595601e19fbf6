"""JSON Schemas, and documents that mostly, but not always, are as the schema says: for property tests."""

import json
from decimal import Decimal

from hypothesis import strategies as st

_NAMES = st.sampled_from(["a", "b", "A", "a/b", "~", "x.y", "é", "", "0"])
_OTHER_NAMES = _NAMES | st.sampled_from(["undeclared", "\ud800", "c"])
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**53 + 1, 2**63, -(2**63), 10**30, 5.0, -0.0, 1e300, Decimal("1e400"), "\ud800", "null"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_OTHER_NAMES, inner, max_size=3),
    max_leaves=6,
)


def _nullable(schema):
    return st.sampled_from([schema, {"anyOf": [schema, {"type": "null"}]}, {**schema, "nullable": True}])


SCHEMAS = st.recursive(
    st.sampled_from(["string", "integer", "number", "boolean"]).map(lambda name: {"type": name})
    | st.just({})
    | st.just({"type": "object"}),
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items}),
        st.dictionaries(_NAMES, inner, min_size=1, max_size=3).map(lambda p: {"type": "object", "properties": p}),
    ).flatmap(_nullable),
    max_leaves=8,
)
ROOTS = st.dictionaries(_NAMES, SCHEMAS, min_size=1, max_size=4).map(
    lambda properties: {"type": "object", "properties": properties}
)


@st.composite
def documents_like(draw, schema):
    """A value that mostly, but not always, conforms to the schema."""
    if draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    if "properties" in schema:
        present = {
            name: draw(documents_like(part)) for name, part in schema["properties"].items() if draw(st.integers(0, 4))
        }
        return {
            **present,
            **(draw(st.dictionaries(_OTHER_NAMES, VALUES, max_size=1)) if draw(st.booleans()) else {}),
        }
    if "items" in schema:
        return draw(st.lists(documents_like(schema["items"]), max_size=3))
    plain = {"string": st.text(max_size=3), "integer": st.integers(), "boolean": st.booleans()}
    plain["number"] = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
    return draw(plain.get(schema.get("type"), VALUES))


def strict(value):
    """The value with its types told apart; 5.0 and 5 are one number, but -0.0 is another than 0."""
    if isinstance(value, dict):
        return {name: strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    if isinstance(value, float) and value.is_integer() and json.dumps(value) != "-0.0":
        return int, int(value)
    return type(value), json.dumps(value) if isinstance(value, float) else value
