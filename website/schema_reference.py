"""Definitions of a JSON Schema as tables of fields."""

import json
from collections.abc import Iterator
from typing import Any

from markdown_text import paragraphs, prose, table

_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "minItems": "items at least"}


def definition(schema: dict[str, Any], titles: dict[str, str]) -> str:
    """What a definition is for, and its fields. ``titles`` are the headings of definitions, by their names."""
    rows = [
        (f"`{name}`", kind(field, titles), default(name, field, schema), prose(field.get("description", "")))
        for name, field in schema["properties"].items()
    ]
    with_meaning = any(row[3] for row in rows)
    head = ("Field", "Type", "Default", "Meaning")[: 3 + with_meaning]
    return f"{paragraphs(schema['description'])}\n\n{table(head, [row[: len(head)] for row in rows])}"


def default(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    """What holds where the field is not there."""
    if name in schema.get("required", ()):
        return "required"
    if field.get("default") is None:
        return "none"
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def kind(field: dict[str, Any], titles: dict[str, str]) -> str:
    """What a value may be, in words."""
    return " or ".join(dict.fromkeys(_kinds(field, titles))) or "anything"


def _kinds(field: dict[str, Any], titles: dict[str, str]) -> Iterator[str]:
    if "$ref" in field:
        title = titles[field["$ref"].rpartition("/")[2]]
        yield f"[{title}](#{title.lower().replace(' ', '-')})"
    for choice in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        if choice.get("type") != "null":
            yield from _kinds(choice, titles)
    if "const" in field:
        yield f"`{field['const']}`"
    elif "enum" in field:
        yield from (f"`{value}`" for value in field["enum"])
    elif "type" in field:
        yield _typed(field, titles)


def _typed(field: dict[str, Any], titles: dict[str, str]) -> str:
    if field["type"] == "array":
        return f"list of ({kind(field.get('items', {}), titles)})"
    if field["type"] == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"mapping to ({kind(field['additionalProperties'], titles)})"
    name = {"string": "text", "boolean": "true or false", "object": "mapping"}.get(field["type"], field["type"])
    bounds = ", ".join(f"{words} {field[bound]:,}" for bound, words in _BOUNDS.items() if bound in field)
    return f"{name}, {bounds}" if bounds else name
