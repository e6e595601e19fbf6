"""The file formats that exist. A new one is a module beside this one and a line here."""

from vv_exports.errors import NotFoundError
from vv_exports.formats.base import Format
from vv_exports.formats.csv import Csv
from vv_exports.formats.json import JsonDocument
from vv_exports.formats.jsonl import JsonLines
from vv_exports.formats.parquet import Parquet

FORMATS: dict[str, Format] = {
    "parquet": Parquet(),
    "jsonl": JsonLines(),
    "csv": Csv(),
    "json": JsonDocument(),
}


def format_named(name: str) -> Format:
    """One format. Raises NotFoundError, a RequestError, where there is none of that name."""
    try:
        return FORMATS[name]
    except KeyError:
        raise NotFoundError(f"there is no format {name!r}: choose one of {', '.join(FORMATS)}") from None
