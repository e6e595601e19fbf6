"""The page of a delivery log's entry, of its JSON Schema."""

import json
from pathlib import Path

from schema_reference import definition

from vv_exports import delivery

_ABOUT = """Made of the JSON Schema that `vv-exports log schema` prints. An entry is a document of the type LogEntry;
a later version may add fields. [Reading deliveries](../reading-deliveries.md#by-the-log) says how to read a log."""


def page() -> str:
    """The page."""
    schema = json.loads((Path(delivery.__file__).parent / "log_entry.schema.json").read_text())
    titles = {name: name for name in schema["$defs"]}
    parts = [
        "# Entry of the delivery log",
        _ABOUT,
    ]
    for name, title in titles.items():
        parts += [f"## {title}", definition(schema["$defs"][name], titles)]
    return "\n\n".join(parts) + "\n"
