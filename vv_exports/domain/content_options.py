"""What somebody may choose of the content of an export or a collection: format, tables, fields, redaction, sizes.

The names are the same in the configuration, the launchpad, the command line and Python.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from vv_exports.domain.tables import TABLES, RunTable, TableName

FormatName = Literal["parquet", "jsonl", "csv", "json", "webvtt", "markers"]
Compression = Literal["none", "gzip", "snappy", "zstd"]
Formulas = Literal["escape", "keep"]
CueKind = Literal["captions", "chapters", "metadata"]
RedactionMethod = Literal["drop", "hash", "mask"]
OnSchemaConflict = Literal["new_version", "text", "hold"]
ContractPolicy = Literal["warn", "quarantine", "block"]

FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)
VIDEO_FORMATS: tuple[FormatName, ...] = ("webvtt", "markers")
"""Those that make files of one video each, of its segments; the others make files of a table's rows."""
TABLE_FORMATS: tuple[FormatName, ...] = tuple(name for name in FORMAT_NAMES if name not in VIDEO_FORMATS)
FORMAT_OPTIONS: Mapping[FormatName, tuple[str, ...]] = {
    "parquet": (),
    "jsonl": (),
    "csv": ("delimiter", "excel", "formulas"),
    "json": (),
    "webvtt": ("kind", "text"),
    "markers": ("text", "note", "frame_rate", "start_timecode", "videos"),
}
"""The options that each format has, beside its name."""
DELIMITERS = (",", ";", "\t", "|")
COMPRESSIONS: Mapping[FormatName, tuple[Compression, ...]] = {
    "parquet": ("zstd", "snappy", "gzip", "none"),
    "jsonl": ("zstd", "gzip", "none"),
    "csv": ("none", "gzip", "zstd"),
    "json": ("none", "gzip", "zstd"),
    "webvtt": ("none",),  # a player and an editor open the file as it is
    "markers": ("none",),
}
"""What each format can be compressed with; the first is the default."""
MIN_TARGET_FILE_BYTES = 1 << 20
MAX_TARGET_FILE_BYTES = 1 << 40


_SAID_OF_TABLES = ("delimiter", "excel", "formulas")
"""What log entries say of the format of any table, csv or not: their content's id is made of it."""


@dataclass(frozen=True)
class VideoTiming:
    """The frame rate of a video (``frame_rates.py``) and the timecode of its first frame; None: as the format's options
    say for all."""

    frame_rate: str | None = None
    start_timecode: str | None = None


@dataclass(frozen=True)
class FormatOptions:
    """A format by its name, and its own options (``FORMAT_OPTIONS``).

    ``excel`` begins the file with a byte order mark. ``formulas``: what to do with text that a spreadsheet would take
    for one; ``escape`` puts an apostrophe before it, which the package's own reader takes away.

    ``kind``: what the cues of a WebVTT file are. ``text`` are the paths of the fields that a cue, or the name of a
    marker, shows; None: those of ``default_text``. ``note`` are those of a marker's note. ``frame_rate`` and
    ``start_timecode`` are those of all videos, ``videos`` those of some, by video id.
    """

    name: FormatName = "parquet"
    delimiter: str = ","
    excel: bool = False
    formulas: Formulas = "escape"
    kind: CueKind = "captions"
    text: tuple[str, ...] | None = None
    note: tuple[str, ...] = ()
    frame_rate: str | None = None
    start_timecode: str | None = None
    videos: Mapping[str, VideoTiming] = field(default_factory=dict, hash=False)

    @property
    def has_columns(self) -> bool:
        """Whether its files have columns, which are the same for all of a table of a prompt; documents have none."""
        return self.name in {"parquet", "csv"}

    @property
    def is_by_video(self) -> bool:
        """Whether a file is of one video."""
        return self.name in VIDEO_FORMATS

    @property
    def default_text(self) -> str:
        """What a cue, or the name of a marker, shows where nothing is chosen."""
        return "transcription" if (self.name, self.kind) == ("webvtt", "captions") else "metadata_text"

    @property
    def texts(self) -> tuple[str, ...]:
        """The paths of what a cue, or the name of a marker, shows. Cues of metadata hold all, and show nothing."""
        if self.kind == "metadata":
            return ()
        return (self.default_text,) if self.text is None else self.text

    def timing_of(self, video_id: str) -> VideoTiming:
        """The timing of a video, as far as it was said."""
        own = self.videos.get(video_id, VideoTiming())
        return VideoTiming(own.frame_rate or self.frame_rate, own.start_timecode or self.start_timecode)

    def folder(self, table: TableName) -> str:
        """The folder of a table: of what is made of segments by video, named after that."""
        if not self.is_by_video or table != "segments":
            return table
        return self.kind if self.name == "webvtt" else self.name

    @property
    def described(self) -> dict[str, Any]:
        """As a log entry says it."""
        options = FORMAT_OPTIONS[self.name] if self.is_by_video else _SAID_OF_TABLES
        return {"name": self.name, **{option: _plain(getattr(self, option)) for option in options}}

    @property
    def chosen(self) -> str | dict[str, Any]:
        """As the configuration holds it: the name, or a mapping where there are options other than the defaults."""
        options = _chosen(self, FormatOptions(self.name))
        return {"name": self.name, **{name: _plain(value) for name, value in options.items()}} if options else self.name


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

    def __post_init__(self) -> None:
        if self.format.is_by_video and self.tables == TABLES:  # segments alone have a place in a video, and a text
            object.__setattr__(self, "tables", ("segments",))

    @property
    def for_quarantine(self) -> "ContentOptions":
        """The same for rows that are set apart: those are a table, whatever is made of the others."""
        return replace(self, format=FormatOptions("jsonl"), compression=None) if self.format.is_by_video else self

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
        chosen = _chosen(self, ContentOptions(FormatOptions(self.format.name))) | {"format": self.format.chosen}
        if "tables" in chosen:
            chosen["tables"] = list(self.tables)
        if "fields" in chosen:
            chosen["fields"] = self.fields.chosen
        if "redact" in chosen:
            chosen["redact"] = dict(sorted(self.redact.items()))
        return {one.name: chosen[one.name] for one in fields(self) if one.name in chosen}


def _plain(value: Any) -> Any:
    """An option's value as a file holds it."""
    match value:
        case VideoTiming():
            return _chosen(value, VideoTiming())
        case Mapping():
            return {name: _plain(value[name]) for name in sorted(value)}
        case tuple():
            return list(value)
    return value


def _chosen(options: Any, defaults: Any) -> dict[str, Any]:
    values = {one.name: getattr(options, one.name) for one in fields(defaults)}
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}
