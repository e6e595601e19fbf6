"""What may be chosen of the content of an export, as the configuration holds it: of an automation in the file, of an
export on demand in the launchpad, the command line and Python."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from vv_exports.config.fields import Model, field_path, no_boolean, null_is_empty
from vv_exports.config.messages import shown
from vv_exports.domain.content_options import (
    COMPRESSIONS,
    DELIMITERS,
    FORMAT_OPTIONS,
    MAX_TARGET_FILE_BYTES,
    MIN_TARGET_FILE_BYTES,
    VIDEO_FORMATS,
    Compression,
    ContentOptions,
    ContractPolicy,
    CueKind,
    Fields,
    FormatName,
    FormatOptions,
    Formulas,
    OnSchemaConflict,
    RedactionMethod,
    VideoTiming,
)
from vv_exports.domain.frame_rates import FRAME_RATES, check_timecode, frame_rate_named
from vv_exports.domain.tables import TABLES, RunTable


def _delimiter(value: str) -> str:
    if value not in DELIMITERS:
        raise ValueError('must be one of "," ";" "|" and the tab, which is "\\t" in double quotes')
    return value


FieldPathText = Annotated[str, AfterValidator(field_path)]


def _some(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Looked at last: a list of one wrong name is not empty."""
    if not chosen:
        raise ValueError("must not be empty")
    return chosen


_SOME = AfterValidator(_some)


def _frame_rate(value: Any) -> Any:
    """The name of what may be written as a number. What is neither is told in the usual way."""
    return frame_rate_named(value) if isinstance(value, str | int | float) else value


FrameRate = Annotated[
    str,
    BeforeValidator(_frame_rate),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}], "examples": list(FRAME_RATES)}),
]


def _timecode_text(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError('is a number to YAML: put quotes around a timecode, as in "10:00:00:00"')  # noqa: TRY004
    return value


Timecode = Annotated[str, BeforeValidator(_timecode_text)]


class VideoTimingConfig(Model):
    """The frame rate of one video, and the timecode of its first frame."""

    frame_rate: FrameRate | None = Field(
        default=None, description="Frames in a second, where it is not that of the format."
    )
    start_timecode: Timecode | None = Field(
        default=None, description="The timecode of its first frame, where it is not that of the format."
    )


class FormatConfig(Model):
    """A format with options."""

    name: FormatName = Field(description="The format: parquet, jsonl, csv, json, webvtt or markers.")
    delimiter: Annotated[str, AfterValidator(_delimiter)] = Field(
        default=",",
        description='csv: what is between two cells: "," ";" "|" or "\\t".',
        json_schema_extra={"enum": list(DELIMITERS)},
    )
    excel: StrictBool = Field(
        default=False, description="csv: whether files begin with a byte order mark, by which Excel knows UTF-8."
    )
    formulas: Formulas = Field(
        default="escape",
        description="csv: what to do with text that a spreadsheet would take for a formula: `escape` puts an "
        "apostrophe before it, `keep` leaves it.",
    )

    kind: CueKind = Field(
        default="captions",
        description="webvtt: what the cues are: `captions` with text, `chapters` with a title, or `metadata` with each "
        "result as JSON, for programs.",
    )
    text: Annotated[tuple[FieldPathText, ...], _SOME] | None = Field(
        default=None,
        description="webvtt, markers: the paths of the fields that a cue, or the name of a marker, shows, a line for "
        "each. Default: transcription for captions, metadata_text for others.",
        json_schema_extra={"minItems": 1},
    )
    note: tuple[FieldPathText, ...] = Field(
        default=(), description="markers: the paths of the fields that the note of a marker shows, a line for each."
    )
    frame_rate: FrameRate | None = Field(
        default=None,
        description=f"markers: frames in a second of all videos: {', '.join(FRAME_RATES)}. It is never guessed.",
    )
    start_timecode: Timecode | None = Field(
        default=None,
        description="markers: the timecode of the first frame of all videos, HH:MM:SS:FF, or HH:MM:SS;FF for "
        "drop-frame. It is never guessed.",
    )
    videos: Annotated[dict[str, VideoTimingConfig], BeforeValidator(null_is_empty)] = Field(
        default={}, description="markers: frame_rate and start_timecode of single videos, by video id."
    )

    @field_validator("delimiter", "excel", "formulas", "kind", "text", "note", "frame_rate", "start_timecode", "videos")
    @classmethod
    def _is_of_the_format(cls, value: Any, info: ValidationInfo) -> Any:
        name, option = info.data.get("name"), info.field_name
        if name is None or option in FORMAT_OPTIONS[name]:
            return value
        own = f"has {', '.join(FORMAT_OPTIONS[name])}" if FORMAT_OPTIONS[name] else "has none"
        of = " and ".join(other for other, options in FORMAT_OPTIONS.items() if option in options)
        raise ValueError(f"is an option of {of}, and {name} {own}; leave it out")

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> "FormatConfig":
        if self.name == "markers":
            _check_timings(self.options)
        if self.kind == "metadata" and self.text is not None:
            raise ValueError("cues of metadata hold the whole result: choose of it with fields, and leave text out")
        return self

    @property
    def options(self) -> FormatOptions:
        """The same for the parts that deliver."""
        values: dict[str, Any] = {name: getattr(self, name) for name in FORMAT_OPTIONS[self.name]}
        if "videos" in values:
            values["videos"] = {
                video_id: VideoTiming(one.frame_rate, one.start_timecode) for video_id, one in self.videos.items()
            }
        return FormatOptions(self.name, **values)


def _check_timings(options: FormatOptions) -> None:
    """Raise ValueError where markers cannot be made of any video, or a timecode is none at its frame rate."""
    if not options.videos and (options.frame_rate is None or options.start_timecode is None):
        raise ValueError(
            "markers need a frame_rate and a start_timecode, as in {name: markers, frame_rate: 25, "
            'start_timecode: "00:00:00:00"}; for single videos in videos, by their ids'
        )
    for where, timing in [("", options.timing_of("")), *((one, options.timing_of(one)) for one in options.videos)]:
        if timing.frame_rate is not None and timing.start_timecode is not None:
            try:
                check_timecode(timing.start_timecode, timing.frame_rate)
            except ValueError as error:
                of = f" of the video {where}" if where else ""
                raise ValueError(f"start_timecode {timing.start_timecode!r}{of} {error}") from None


def _each_once(paths: tuple[str, ...]) -> tuple[str, ...]:
    """In an order of their own, so that the same choice is the same content."""
    return tuple(sorted(set(paths)))


class FieldsConfig(Model):
    """Which fields are delivered."""

    include: Annotated[tuple[FieldPathText, ...], _SOME, AfterValidator(_each_once)] | None = Field(
        default=None,
        description="The paths of the fields that are delivered, with all below them. Default: all.",
        json_schema_extra={"minItems": 1},
    )
    exclude: Annotated[tuple[FieldPathText, ...], AfterValidator(_each_once)] = Field(
        default=(), description="The paths of fields that are not delivered."
    )


def _named_or_mapped(data: Any) -> str:
    return "options" if isinstance(data, dict | FormatConfig) else "name"


def _chosen_tables(tables: tuple[RunTable, ...]) -> tuple[RunTable, ...]:
    if len(set(tables)) < len(tables):
        raise ValueError("names a table twice; name each once")
    return tuple(name for name in TABLES if name in tables)


def _spelled_once(redact: Any) -> Any:
    """What is no mapping, or names what is no path, is told in the usual way."""
    spellings: dict[str, str] = {}
    for spelling in redact if isinstance(redact, dict) else ():
        path = _canonical(spelling)
        if path in spellings:
            raise ValueError(f"{shown(spellings[path])} and {shown(spelling)} are the same field; keep one")
        if path is not None:
            spellings[path] = spelling
    return null_is_empty(redact)


def _canonical(spelling: Any) -> str | None:
    try:
        return field_path(spelling) if isinstance(spelling, str) else None
    except ValueError:
        return None


def _sorted(redact: dict[str, RedactionMethod]) -> dict[str, RedactionMethod]:
    return dict(sorted(redact.items()))


def _name_of_format(info: ValidationInfo) -> FormatName | None:
    """The chosen one; None where it has a problem of its own."""
    format_: FormatName | FormatConfig | None = info.data.get("format")
    return format_.name if isinstance(format_, FormatConfig) else format_


FormatChoice = Annotated[
    Annotated[FormatName, Tag("name")] | Annotated[FormatConfig, Tag("options")], Discriminator(_named_or_mapped)
]
Redactions = Annotated[dict[FieldPathText, RedactionMethod], BeforeValidator(_spelled_once), AfterValidator(_sorted)]
FileBytes = Annotated[int, Field(ge=MIN_TARGET_FILE_BYTES, le=MAX_TARGET_FILE_BYTES), BeforeValidator(no_boolean)]


ChosenTables = Annotated[tuple[RunTable, ...], _SOME, AfterValidator(_chosen_tables)]


class DeliveredContentConfig(Model):
    """What is delivered, and in which shape, but for the tables: an automation says more of them."""

    format: FormatChoice = Field(
        default="parquet",
        description="The format of the files: parquet, jsonl, csv, json or webvtt; or a mapping with its name and "
        "options, which markers need.",
    )
    fields: FieldsConfig = Field(default=FieldsConfig(), description="Which fields are delivered.")
    redact: Redactions = Field(
        default={},
        description="What becomes of values, by the path of their field: `drop` leaves them out, `hash` replaces them "
        "by a keyed hash (redaction_key_env), `mask` by asterisks.",
    )
    compression: Compression | None = Field(
        default=None, description="How files are compressed, of what the format has. null: the format's default."
    )
    target_file_bytes: FileBytes | None = Field(
        default=None, description="The size at which a table goes on in another file. null: the pipeline decides."
    )
    on_schema_conflict: OnSchemaConflict = Field(
        default="new_version",
        description="What to do with a run whose prompt has another type in a place than the files that there are: "
        "`new_version` of the table beside the old one, the place as JSON `text` in all files, or `hold` the run.",
    )
    contract: ContractPolicy = Field(
        default="warn",
        description="What to do with rows that break their prompt's JSON Schema: deliver them and `warn`; set them "
        "apart in the table `quarantine`; or `block` the run, which then waits.",
    )

    @field_validator("format")
    @classmethod
    def _is_told_all(cls, value: "FormatName | FormatConfig") -> "FormatName | FormatConfig":
        if value == "markers":
            _check_timings(FormatOptions("markers"))
        return value

    @field_validator("tables", check_fields=False)
    @classmethod
    def _are_what_the_format_takes(cls, value: Any, info: ValidationInfo) -> Any:
        included = getattr(value, "include", value)  # an automation's may be a mapping
        if (name := _name_of_format(info)) in VIDEO_FORMATS and included not in {TABLES, ("segments",)}:
            raise ValueError(f"{name} files are made of segments alone; leave it out")
        return value

    @field_validator("target_file_bytes", mode="before")
    @classmethod
    def _has_a_size(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and (name := _name_of_format(info)) in VIDEO_FORMATS:
            raise ValueError(f"a {name} file is of one video, whatever its size; leave it out")
        return value

    @field_validator("compression", mode="before")
    @classmethod
    def _is_what_the_format_has(cls, value: Any, info: ValidationInfo) -> Any:
        name = _name_of_format(info)
        if value is not None and name is not None and value not in COMPRESSIONS[name]:
            raise ValueError(f"{name} files can be: {', '.join(COMPRESSIONS[name])}")
        return value

    @property
    def format_name(self) -> FormatName:
        """The format's."""
        return self.format if isinstance(self.format, str) else self.format.name

    @property
    def included_tables(self) -> tuple[RunTable, ...]:
        """Those that are delivered."""
        raise NotImplementedError

    @property
    def content(self) -> ContentOptions:
        """The same for the parts that deliver."""
        format_ = FormatOptions(self.format) if isinstance(self.format, str) else self.format.options
        return ContentOptions(
            format=format_,
            tables=self.included_tables,
            fields=Fields(self.fields.include, self.fields.exclude),
            redact=self.redact,
            compression=self.compression,
            target_file_bytes=self.target_file_bytes,
            on_schema_conflict=self.on_schema_conflict,
            contract=self.contract,
        )


class ContentConfig(DeliveredContentConfig):
    """What is delivered by an export on demand."""

    tables: ChosenTables = Field(
        default=TABLES,
        description="The tables that are delivered.",
        json_schema_extra={"minItems": 1, "uniqueItems": True},
    )

    @property
    def included_tables(self) -> tuple[RunTable, ...]:
        """Those that are delivered."""
        return self.tables
