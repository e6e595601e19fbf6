"""A dataset card as Croissant 1.1: JSON-LD that ML tools load records by (https://docs.mlcommons.org/croissant/).

Each table is a FileSet, and a RecordSet whose fields are its columns. A list of objects that is in another list has no
field: Croissant has no way to say how such records are read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from vv_exports.content.described import RECORD
from vv_exports.delivery.cards.tables import CardTable
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.domain.field_paths import ITEMS, FieldPath, Step
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.columns import Boolean, Column, Integer, Json, List, Number, Object, Text, Timestamp

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES: dict[type[Column], str] = {
    Text: "sc:Text",
    Json: "sc:Text",
    Integer: "sc:Integer",
    Number: "sc:Float",
    Boolean: "sc:Boolean",
    Timestamp: "sc:DateTime",
}
_ADDRESS = re.compile(r"https?://\S+")
_SPDX = re.compile(r"(?!LicenseRef-)[A-Za-z0-9][A-Za-z0-9.+-]*")


def croissant(
    tables: Sequence[CardTable],
    texts: DatasetTexts,
    *,
    name: str,
    description: str,
    entry: int,
    published: str,
    superseded: frozenset[str],
    is_live: bool,
    identifier: str,
) -> dict[str, Any]:
    """The card. ``entry`` is the number of the last entry of the log, ``published`` its moment, ``is_live`` whether
    there will be more of them; ``identifier`` is what comes last. Files are told by patterns, unless those would take
    ``superseded`` ones as well."""
    said: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "datePublished": published,
        "version": f"0.0.{entry}",
    }
    if texts.license is not None:
        said["license"] = license_address(texts.license)
    if texts.creators:
        said["creator"] = [{"@type": "sc:Organization", "name": one} for one in texts.creators]
    if texts.url is not None:
        said["url"] = texts.url
    if texts.cite_as is not None:
        said["citeAs"] = texts.cite_as
    return {
        **said,
        "isLiveDataset": is_live,
        "distribution": [_file_set(table, superseded) for table in tables],
        "recordSet": [_record_set(table) for table in tables],
        "identifier": identifier,
    }


def license_address(license_: str) -> str:
    """The address of an SPDX id's text, which readers of Croissant expect; anything else as it is."""
    return f"https://spdx.org/licenses/{license_}" if _SPDX.fullmatch(license_) else license_


def is_address(text: str) -> bool:
    """Whether a text is a web address."""
    return _ADDRESS.fullmatch(text) is not None


def is_spdx(text: str) -> bool:
    """Whether a text has the form of an id of SPDX's list."""
    return _SPDX.fullmatch(text) is not None


def _file_set(table: CardTable, superseded: frozenset[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"files/{table.name}",
        "name": f"Files of {table.name}",
        "encodingFormat": "application/x-parquet",
        "includes": table.patterns(superseded),
    }


def _record_set(table: CardTable) -> dict[str, Any]:
    said = {one.path: one.description for one in table.described if one.description}
    fields = [
        field
        for name, column in table.columns.items()
        if (field := _Place(table, said, name).field(column)) is not None
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": f"{counted(table.rows, 'row')} of {counted(table.runs, 'prompt run')} of the prompt "
        + one_line(table.prompt_name),
        "field": fields,
    }


@dataclass(frozen=True)
class _Place:
    """A place in the rows of a table. ``steps`` lead to it from the column. Readers get there in ``jumps``: names of
    objects within one another are one jump, and each list of objects ends one. ``names`` are of the next."""

    table: CardTable
    said: dict[str, str]
    column: str
    steps: tuple[Step, ...] = ()
    jumps: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def field(self, column: Column) -> dict[str, Any] | None:
        """The field of a column at this place; None where it can have none."""
        item, depth = column, 0
        while isinstance(item, List):
            item, depth = item.item, depth + 1
        inside = replace(self, steps=(*self.steps, *[ITEMS] * depth))
        if not isinstance(item, Object):
            parts: dict[str, Any] = {"dataType": _TYPES[type(item)], "source": self._source()}
        elif depth > 1 or (depth and ITEMS in self.steps) or not (fields := inside.fields(item)):
            return None
        else:
            parts = {"subField": fields}
        description = inside.description or self.description
        return {
            "@type": "cr:Field",
            "@id": _id(self.table.name, self.column, *(step for step in self.steps if isinstance(step, str))),
            "name": self.path,
            **({"description": description} if description else {}),
            **({"isArray": True, "arrayShape": ",".join(["-1"] * depth)} if depth else {}),
            **parts,
        }

    def fields(self, object_: Object) -> list[dict[str, Any]]:
        """Those within an object at this place, which may be an item of a list."""
        jumps, names = self.jumps, self.names
        if self.steps[-1:] == (ITEMS,):
            jumps, names = (*jumps, _json_path(names)) if names else jumps, ()
        named = {name: column for name, column in object_.fields.items() if name != "*"}  # any name, to a JSONPath
        places = {name: replace(self, steps=(*self.steps, name), jumps=jumps, names=(*names, name)) for name in named}
        found = (places[name].field(column) for name, column in named.items())
        return [field for field in found if field is not None]

    @property
    def path(self) -> str:
        """As the configuration writes it."""
        return str(FieldPath((self.column, *self.steps)))

    @property
    def description(self) -> str:
        """What is said of it; nothing, of most objects."""
        return self.said.get(self.path) or ("" if self.steps else RECORD.get(self.column, ""))

    def _source(self) -> dict[str, Any]:
        jumps = [*self.jumps, *([_json_path(self.names)] if self.names else [])]
        return {
            "fileSet": {"@id": f"files/{self.table.name}"},
            "extract": {"column": self.column},
            **({"transform": [{"jsonPath": jump} for jump in jumps]} if jumps else {}),
        }


def _json_path(names: Sequence[str]) -> str:
    """Names in quotes: they may hold anything."""
    return ".".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)


def _id(table: str, *names: str) -> str:
    """An ``@id``, which is an address: of a table, whose name is encoded already, or of names in it."""
    return "/".join((table, *(quote(name, safe="") for name in names)))
