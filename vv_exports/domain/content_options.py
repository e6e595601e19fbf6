"""What somebody may choose of the content of an export or a collection: format, tables, fields, redaction, sizes.

The names are the same in the configuration, the launchpad, the command line and Python.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from vv_exports.domain.tables import TABLES, RunTable

FormatName = Literal["parquet", "jsonl", "csv", "json"]
Compression = Literal["none", "gzip", "snappy", "zstd"]
Formulas = Literal["escape", "keep"]
RedactionMethod = Literal["drop", "hash", "mask"]
OnSchemaConflict = Literal["new_version", "text", "hold"]
ContractPolicy = Literal["warn", "quarantine", "block"]

FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)
DELIMITERS = (",", ";", "\t", "|")
COMPRESSIONS: Mapping[FormatName, tuple[Compression, ...]] = {
    "parquet": ("zstd", "snappy", "gzip", "none"),
    "jsonl": ("zstd", "gzip", "none"),
    "csv": ("none", "gzip", "zstd"),
    "json": ("none", "gzip", "zstd"),
}
"""What each format can be compressed with; the first is the default."""
MIN_TARGET_FILE_BYTES = 1 << 20
MAX_TARGET_FILE_BYTES = 1 << 40


@dataclass(frozen=True)
class FormatOptions:
    """A format by its name, and its own options, which are those of ``csv``.

    ``excel`` begins the file with a byte order mark. ``formulas``: what to do with text that a spreadsheet would take
    for one; ``escape`` puts an apostrophe before it, which the package's own reader takes away.
    """

    name: FormatName = "parquet"
    delimiter: str = ","
    excel: bool = False
    formulas: Formulas = "escape"

    @property
    def has_columns(self) -> bool:
        """Whether its files have columns, which are the same for all of a table of a prompt; documents have none."""
        return self.name in {"parquet", "csv"}

    @property
    def chosen(self) -> str | dict[str, Any]:
        """As the configuration holds it: the name, or a mapping where there are options other than the defaults."""
        options = _chosen(self, FormatOptions(self.name))
        return {"name": self.name, **options} if options else self.name


@dataclass(frozen=True)
class Fields:
    """Which fields are delivered, by their paths (``field_paths.py``): those in ``include``, or all where it is None,
    without those in ``exclude``."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    @property
    def chosen(self) -> dict[str, list[str]]:
        """As the configuration holds it."""
        return {name: list(paths) for name, paths in _chosen(self, Fields()).items()}


@dataclass(frozen=True)
class ContentOptions:
    """``redact`` says by path what becomes of a value: it is left out, replaced by a keyed hash, or masked.
    ``compression`` is the format's default where it is None. A table goes on in another file at ``target_file_bytes``.
    ``on_schema_conflict``: what to do with a run whose prompt has another type in a place than its files there have.
    ``contract``: what to do with rows that break their prompt's JSON Schema.
    """

    format: FormatOptions = FormatOptions()
    tables: tuple[RunTable, ...] = TABLES
    fields: Fields = Fields()
    redact: Mapping[str, RedactionMethod] = field(default_factory=dict)
    compression: Compression | None = None
    target_file_bytes: int | None = None
    on_schema_conflict: OnSchemaConflict = "new_version"
    contract: ContractPolicy = "warn"

    @property
    def compressed_with(self) -> Compression:
        """The compression, chosen or by default."""
        return self.compression or COMPRESSIONS[self.format.name][0]

    @property
    def hashes(self) -> bool:
        """Whether a value is redacted by hash, which needs a key."""
        return "hash" in self.redact.values()

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen, as the configuration holds it: the format, and what is not the default. It is the same for
        the same choice, whatever order it was made in."""
        chosen = _chosen(self, ContentOptions()) | {"format": self.format.chosen}
        if "tables" in chosen:
            chosen["tables"] = list(self.tables)
        if "fields" in chosen:
            chosen["fields"] = self.fields.chosen
        if "redact" in chosen:
            chosen["redact"] = dict(sorted(self.redact.items()))
        return {one.name: chosen[one.name] for one in fields(self) if one.name in chosen}


def _chosen(options: Any, defaults: Any) -> dict[str, Any]:
    values = {one.name: getattr(options, one.name) for one in fields(defaults)}
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}
