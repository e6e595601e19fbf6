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
    field_validator,
)

from vv_exports.config.fields import Model, field_path, no_boolean, null_is_empty
from vv_exports.config.messages import shown
from vv_exports.domain.content_options import (
    COMPRESSIONS,
    DELIMITERS,
    MAX_TARGET_FILE_BYTES,
    MIN_TARGET_FILE_BYTES,
    Compression,
    ContentOptions,
    ContractPolicy,
    Fields,
    FormatName,
    FormatOptions,
    Formulas,
    OnSchemaConflict,
    RedactionMethod,
)
from vv_exports.domain.tables import TABLES, RunTable


def _delimiter(value: str) -> str:
    if value not in DELIMITERS:
        raise ValueError('must be one of "," ";" "|" and the tab, which is "\\t" in double quotes')
    return value


class FormatConfig(Model):
    """A format with options."""

    name: FormatName = Field(description="The format: parquet, jsonl, csv or json.")
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

    @field_validator("delimiter", "excel", "formulas")
    @classmethod
    def _is_of_the_format(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("name", "csv") != "csv":
            raise ValueError(f"is an option of csv, and {info.data['name']} has none; leave it out")
        return value


FieldPathText = Annotated[str, AfterValidator(field_path)]


def _some(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Looked at last: a list of one wrong name is not empty."""
    if not chosen:
        raise ValueError("must not be empty")
    return chosen


_SOME = AfterValidator(_some)


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
        description="The format of the files: parquet, jsonl, csv or json; or a mapping with its name and options.",
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

    @field_validator("compression", mode="before")
    @classmethod
    def _is_what_the_format_has(cls, value: Any, info: ValidationInfo) -> Any:
        format_ = info.data.get("format")  # missing where it has a problem of its own
        name: FormatName | None = format_.name if isinstance(format_, FormatConfig) else format_
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
        format_ = FormatOptions(self.format) if isinstance(self.format, str) else FormatOptions(**dict(self.format))
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
