"""The shape of the configuration file: source, storage, connectors, indexes and their automations.

To add a kind of source: a class, its line in ``SOURCES``, its member in ``SourceConfig``.
"""

from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    StrictBool,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from vv_exports.config.connectors import ConnectorConfig, StorageConfig
from vv_exports.config.content import DeliveredContentConfig
from vv_exports.config.dataset import DatasetConfig
from vv_exports.config.fields import (
    FINITE,
    AutomationName,
    Duration,
    Id,
    Model,
    Place,
    api_url,
    cron_line,
    duration,
    no_boolean,
    null_is_empty,
    of_this_machine,
    one_or_more,
    owner,
    tag_key,
    tag_value,
    timezone_name,
    told_apart_by,
    variable_name,
)
from vv_exports.config.messages import entry_named
from vv_exports.config.notifications import NotificationsConfig
from vv_exports.config.run_tags import RunTags
from vv_exports.config.table_formats import TablesChoice, TablesConfig
from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.domain.redaction_key import REDACTION_KEY_ENV
from vv_exports.domain.tables import TABLES, RunTable
from vv_exports.errors import DestinationError

PLACEHOLDER = "{index_id}"
"""Stands in a template's subpath for the index's id."""
_PATTERN = {"type": "string", "minLength": 1, "maxLength": 512}
Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=512)], ...],
    BeforeValidator(one_or_more),
    WithJsonSchema({"anyOf": [_PATTERN, {"type": "array", "items": _PATTERN}]}),
]
MIN_SPOOL_BYTES = 256 << 20
"""Less would be used up by what writers hold in memory."""


class LocalArchiveConfig(Model):
    """Prompt runs in a folder."""

    kind: Literal["local_archive"] = Field(description="Prompt runs are read from a folder.")
    path: Place = Field(description="The archive's folder; a relative one is relative to this file's folder.")
    max_document_bytes: Annotated[int, Field(ge=1), BeforeValidator(no_boolean)] = Field(
        default=64 << 20,
        description="Most bytes of a file that is read whole: index.json, prompt_run.json, prompt.json, "
        "failed_segments.json. It may hold one value (object, array, string, number) for each 64 of these bytes; one "
        "with a name counts as three.",
    )
    max_record_bytes: Annotated[int, Field(ge=1), BeforeValidator(no_boolean)] = Field(
        default=16 << 20,
        description="Most bytes of one line of a results file, decompressed. It may hold one value for each 8 of these "
        "bytes; one with a name counts as three.",
    )
    follow_links: StrictBool = Field(
        default=False,
        description="Whether symbolic links may lead out of the archive's folder. Only where path is a folder; links "
        "within it are always followed.",
    )
    processes: Annotated[int, Field(ge=1, le=64), BeforeValidator(no_boolean)] = Field(
        default=1,
        description="Processes that read prompt runs at a time, where at least two are to be read, of 50,000 segments "
        "or more for each process. Each takes a core, and about 300 MB of memory.",
    )

    @model_validator(mode="after")
    def _folders_alone_have_links(self) -> "LocalArchiveConfig":
        if self.follow_links and "://" in self.path and not self.path.startswith("file://"):
            raise ValueError("follow_links: true is for folders; there are no links in a store, so leave it out")
        return self


class VideoVectorConfig(Model):
    """Prompt runs at VideoVector."""

    kind: Literal["videovector"] = Field(description="Prompt runs are read from VideoVector's API.")
    base_url: Annotated[str, AfterValidator(api_url)] = Field(
        default="https://api.vectormethods.com/api/v2", description="The API's address."
    )
    api_key_env: Annotated[str, AfterValidator(variable_name)] = Field(
        default="VIDEO_VECTOR_API_KEY",
        description="The name of the environment variable that holds the API key. The scope read is enough.",
    )
    max_concurrency: Annotated[int, Field(ge=1, le=64), BeforeValidator(no_boolean)] = Field(
        default=16, description="Requests under way at a time, of all processes that have the same storage together."
    )
    max_requests_per_second: Annotated[float, FINITE, Field(gt=0), BeforeValidator(no_boolean)] | None = Field(
        default=None,
        description="Requests that begin in a second, of all processes that have the same storage together. Without it "
        "only the server sets the pace: where it says that it had too many, all requests wait as long as it asks for.",
    )
    request_timeout_seconds: Annotated[float, FINITE, Field(ge=1, le=600), BeforeValidator(no_boolean)] = Field(
        default=60, description="Seconds that one request may take, to the last byte of its answer."
    )
    max_answer_bytes: Annotated[int, Field(ge=2**16, le=2**31 - 1), BeforeValidator(no_boolean)] = Field(
        default=64 * 2**20,
        description="Bytes that one answer may have, unpacked. It may hold one value for each 32 of them.",
    )


SOURCES: dict[str, type[BaseModel]] = {"local_archive": LocalArchiveConfig, "videovector": VideoVectorConfig}

SourceConfig = Annotated[
    Annotated[LocalArchiveConfig, Tag("local_archive")] | Annotated[VideoVectorConfig, Tag("videovector")],
    told_apart_by("kind"),
]


class SpoolConfig(Model):
    """Where files are made on this machine before they are uploaded."""

    folder: Annotated[Place, AfterValidator(of_this_machine)] | None = Field(
        default=None,
        description="A folder that is there, on a local disk; a relative one is relative to this file's folder. "
        "null: the system's temporary folder, which TMPDIR names.",
    )
    max_bytes: Annotated[int, Field(ge=MIN_SPOOL_BYTES), BeforeValidator(no_boolean)] | None = Field(
        default=None,
        description="Most bytes that one process keeps there at a time. A run that needs more is refused, by itself. "
        "null: as much as the disk has free.",
    )


class ScheduleConfig(Model):
    """When an automation puts its collection right by the clock."""

    cron: Annotated[str, AfterValidator(cron_line)] = Field(description="Five fields, as in crontab(5).")
    timezone: Annotated[str, AfterValidator(timezone_name)] = Field(
        default="UTC", description="The IANA time zone that the cron line is in."
    )


class AutomationConfig(DeliveredContentConfig):
    """An export automation: what keeps one collection up to date."""

    enabled: StrictBool = Field(
        default=True, description="Whether it may deliver. A disabled one is there to be seen, and refuses to run."
    )
    paused: StrictBool = Field(
        default=False, description="Whether it waits. It keeps its place and catches up when resumed."
    )
    destination_connector_id: Id = Field(description="A connector of this file that has the export scope.")
    destination_subpath: str | None = Field(
        default=None,
        description="The collection's folder below the connector's export_base_path. Default: the index id.",
    )
    tables: TablesChoice = Field(
        default=TABLES,
        description="The tables that are delivered; or a mapping that names them (`include`), and the open table "
        "formats in which they are registered (`delta`, `iceberg`).",
    )
    on_status: frozenset[Literal[RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES]] = Field(
        default=frozenset({RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES}),
        min_length=1,
        description="The statuses in which a prompt run is delivered.",
    )
    partial: Literal["deliver", "hold"] = Field(
        default="deliver", description="What to do with a run that is completed_with_failures."
    )
    schedule: ScheduleConfig | None = Field(
        default=None,
        description="When the collection is compared with the index and put right. With `trigger: schedule` this is "
        "when it delivers; otherwise deliveries need no schedule.",
    )
    trigger: Literal["finished", "schedule", "manual"] = Field(
        default="finished",
        description="When it delivers by itself: as soon as a prompt run is `finished`; at the times of its `schedule` "
        "alone; or never (`manual`), but when somebody asks for it.",
    )
    start: Literal["now", "beginning"] = Field(
        default="now",
        description="What a new automation delivers by itself: runs that finish from now on, or all that there are.",
    )
    max_runs_per_delivery: Annotated[int, Field(ge=1, le=1000), BeforeValidator(no_boolean)] = Field(
        default=100, description="Prompt runs that one Dagster run delivers, in one commit."
    )
    pause_after_failures: Annotated[int, Field(ge=1), BeforeValidator(no_boolean)] | None = Field(
        default=3,
        description="Failures of the same permanent kind in a row (credentials, a missing bucket) after which the "
        "automation pauses itself. null: never.",
    )
    retain_superseded: Duration | None = Field(
        default=None,
        description="How long files that a delivery has superseded are kept for readers that began before, such as "
        "24h. null: they are removed at once.",
    )

    owners: tuple[Annotated[str, AfterValidator(owner)], ...] = Field(
        default=(),
        description="Who answers for it, as Dagster shows: e-mail addresses, or teams as in `team:editorial`.",
    )
    tags: dict[Annotated[str, AfterValidator(tag_key)], Annotated[str, AfterValidator(tag_value)]] = Field(
        default={}, description="Tags of its asset in Dagster, such as `domain: news`."
    )
    run_tags: RunTags = Field(
        default={},
        description="Tags of the Dagster runs that are launched for it, by which a launcher chooses workers, such as "
        "`dagster-celery/queue: heavy`; before those of its index.",
    )
    on_upstream_delete: Literal["keep", "erase"] = Field(
        default="keep",
        description="What becomes of a delivered prompt run that is deleted at the source. erase: it is taken out of "
        "the collection, and out of what the pipeline keeps of it, and does not come back by itself.",
    )

    expect_every: Duration | None = Field(
        default=None,
        description="How often a delivery is expected, such as 24h: where the last one is longer ago, the collection "
        "is not fresh, and Dagster and `vv-exports checks` say so. null: whenever there is something to deliver.",
    )

    @field_validator("tables")
    @classmethod
    def _are_of_a_format_that_is_registered(cls, value: Any, info: ValidationInfo) -> Any:
        format_ = info.data.get("format")  # missing where it has a problem of its own
        name = getattr(format_, "name", format_)
        if isinstance(value, TablesConfig) and (value.delta or value.iceberg) and name not in {None, "parquet"}:
            raise ValueError(f"delta and iceberg are for parquet, and the format is {name}; leave one of them out")
        return value

    dataset_card: StrictBool = Field(
        default=False,
        description="Whether a dataset card is kept beside the tables: `README.md`, which Hugging Face reads as well, "
        "and `croissant.json`. Of Parquet alone; what it says of the whole is in `dataset` of the index.",
    )

    @field_validator("dataset_card")
    @classmethod
    def _is_of_parquet(cls, value: bool, info: ValidationInfo) -> bool:
        format_ = info.data.get("format", "parquet")  # missing where it has a problem of its own
        if value and format_ != "parquet" and getattr(format_, "name", None) != "parquet":
            raise ValueError("a dataset card tells the columns of Parquet files: set format: parquet, or leave it out")
        return value

    @field_validator("trigger")
    @classmethod
    def _has_the_schedule_that_it_needs(cls, value: str, info: ValidationInfo) -> str:
        # Missing where it has a problem of its own.
        if value == "schedule" and info.data.get("schedule", ...) is None:
            raise ValueError("needs a schedule, which says when: {cron: '0 3 * * *', timezone: Europe/Berlin}")
        if value == "manual" and info.data.get("schedule") is not None:
            raise ValueError("contradicts the schedule, which delivers what it puts right; remove one of them")
        return value

    @property
    def included_tables(self) -> tuple[RunTable, ...]:
        """The tables that are delivered."""
        return self.tables.include if isinstance(self.tables, TablesConfig) else self.tables

    @property
    def registered(self) -> TablesConfig:
        """The open table formats in which they are registered."""
        return self.tables if isinstance(self.tables, TablesConfig) else TablesConfig(include=self.tables)

    @property
    def by_itself(self) -> str:
        """When it delivers by itself, for people."""
        match self.trigger:
            case "finished":
                return "as soon as a prompt run is finished"
            case "schedule" if self.schedule is not None:
                return f"at the times of its schedule alone: `{self.schedule.cron}` {self.schedule.timezone}"
            case _:
                return "never, but when somebody asks for it"

    @property
    def expected_within(self) -> timedelta | None:
        """``expect_every`` as a duration."""
        return None if self.expect_every is None else duration(self.expect_every)

    @property
    def superseded_kept(self) -> timedelta | None:
        """``retain_superseded`` as a duration."""
        return None if self.retain_superseded is None else duration(self.retain_superseded)

    @property
    def subpath(self) -> str:
        """The collection's folder below the connector's export_base_path, checked and canonical."""
        if self.destination_subpath is None:
            raise DestinationError("an automation outside a configuration has no default subpath")
        return self.destination_subpath


class IndexConfig(Model):
    """An index whose prompt runs are followed."""

    _template: str | None = PrivateAttr(default=None)

    automations: Annotated[dict[AutomationName, AutomationConfig], BeforeValidator(null_is_empty)] = Field(
        default={}, description="Export automations of the index, by name."
    )
    discovery_interval_seconds: Annotated[int, Field(ge=5, le=86_400), BeforeValidator(no_boolean)] | None = Field(
        default=None,
        description="How often the source is asked for new and changed prompt runs. null: every 30 seconds, and with "
        "more than 150 indexes a fifth of a second for each of them.",
    )
    run_tags: RunTags = Field(
        default={},
        description="Tags of the Dagster runs that are launched for the index, by which a launcher chooses workers, "
        "such as `dagster-celery/queue: heavy`, or `dagster-k8s/config` with a mapping.",
    )
    dataset: DatasetConfig = Field(
        default=DatasetConfig(), description="What dataset cards of its results say that no prompt run tells."
    )

    def run_tags_of(self, automation: str) -> dict[str, str]:
        """The tags of runs for an automation: its own, and those of the index that it does not have itself."""
        return {**self.run_tags, **self.automations[automation].run_tags}

    def model_post_init(self, context: Any) -> None:
        """What a template cannot say of itself."""
        self._template = (context or {}).get("template")

    @property
    def template(self) -> str | None:
        """The template that the index is followed by; None where it is described itself."""
        return self._template


class IndexTemplate(IndexConfig):
    """What is done with every index that matches, if the file does not describe it under ``indexes``."""

    match: Patterns = Field(
        default=(),
        description="Ids of indexes: one pattern, or a list, with `*` for any characters, `?` for one and `[…]` for "
        "one of some.",
    )
    match_name: Patterns = Field(
        default=(), description="The same for their names. With both, an index has to match both."
    )
    exclude: Patterns = Field(default=(), description="Ids of indexes that do not match, whatever their id and name.")

    @model_validator(mode="after")
    def _matches_something(self) -> "IndexTemplate":
        if not (self.match or self.match_name):
            raise ValueError("needs match (ids of indexes) or match_name (their names), such as match: 'prod-*'")
        return self

    def matches(self, index_id: str, name: str) -> bool:
        """Whether it is for an index of this id and name."""
        wanted = ((self.match, index_id), (self.match_name, name))
        return all(_any_of(patterns, text) for patterns, text in wanted if patterns) and not _any_of(
            self.exclude, index_id
        )

    def of(self, index_id: str, title: str) -> IndexConfig:
        """What it says, under its name in the file, of one index."""
        automations = {
            name: one.model_copy(update={"destination_subpath": _placed(one.destination_subpath, index_id)})
            for name, one in self.automations.items()
        }
        as_they_are = {name: getattr(self, name) for name in IndexConfig.model_fields if name != "automations"}
        return IndexConfig.model_validate({**as_they_are, "automations": automations}, context={"template": title})


def _any_of(patterns: tuple[str, ...], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _placed(subpath: str | None, index_id: str) -> str | None:
    return None if subpath is None else subpath.replace(PLACEHOLDER, index_id)


class Destinations(Model, extra="ignore"):
    connectors: Annotated[dict[Id, ConnectorConfig], BeforeValidator(null_is_empty)] = Field(
        default={}, description="Storage that exports can go to, by connector id."
    )
    indexes: Annotated[dict[Id, IndexConfig], BeforeValidator(null_is_empty)] = Field(
        default={}, description="The indexes to follow, by index id."
    )


class Config(Destinations, extra="forbid"):
    """A loaded configuration: every rule holds, paths are absolute, subpaths are set."""

    _folder: Path | None = PrivateAttr(default=None)
    _file: Path | None = PrivateAttr(default=None)

    source: SourceConfig = Field(description="Where prompt runs are read.")
    storage: StorageConfig = Field(
        description="Where snapshots and downloads are kept: a folder, the URL of a store whose credentials its SDK "
        "finds by itself, or a mapping with the fields of a connector."
    )
    index_templates: Annotated[dict[AutomationName, IndexTemplate], BeforeValidator(null_is_empty)] = Field(
        default={},
        description="What is done with indexes that are alike, by the template's name. Which indexes there are is what "
        "`vv-exports indexes sync` has read of the source.",
    )
    spool: SpoolConfig = Field(
        default=SpoolConfig(), description="Where files are made on this machine before they are uploaded."
    )
    exports_keep: Duration | None = Field(
        default=None,
        description="How long the artifact of a download is kept after it was completed, such as 12h, 30d or 8w; then "
        "`vv-exports exports vacuum` deletes it. null: for ever.",
    )

    redaction_key_env: Annotated[str, AfterValidator(variable_name)] = Field(
        default=REDACTION_KEY_ENV,
        description="The name of the environment variable that holds the key of `redact: {…: hash}`.",
    )

    notifications: NotificationsConfig = Field(
        default=NotificationsConfig(), description="Who is told of what becomes of automations."
    )
    dagster_project: Annotated[Place, AfterValidator(of_this_machine)] | None = Field(
        default=None,
        description="The folder of a Dagster project whose components (vv_exports.IndexExports) use this file: "
        "commands and Python see their indexes too.",
    )

    @property
    def exports_kept(self) -> timedelta | None:
        """The same as a duration."""
        return None if self.exports_keep is None else duration(self.exports_keep)

    def model_post_init(self, context: Any) -> None:
        """What the file cannot say of itself."""
        self._folder = (context or {}).get("folder")
        self._file = (context or {}).get("file")

    @property
    def folder(self) -> Path | None:
        """Where relative paths of the file start, and the Dagster instance is; None where there is no file."""
        return self._folder

    @property
    def file(self) -> Path | None:
        """The file that this is; None for the packaged demo configuration, and for what was loaded from no file."""
        return self._file

    @property
    def described(self) -> dict[str, IndexConfig]:
        """The indexes that are described themselves."""
        return {index_id: index for index_id, index in self.indexes.items() if index.template is None}

    def connector(self, connector_id: str) -> ConnectorConfig:
        """A connector. Raises NotFoundError."""
        return entry_named("connector", connector_id, self.connectors, "the configuration")

    def index(self, index_id: str) -> IndexConfig:
        """An index. Raises NotFoundError."""
        return entry_named("index", index_id, self.indexes, "the configuration")

    def automation(self, index_id: str, name: str) -> AutomationConfig:
        """An automation of an index. Raises NotFoundError."""
        return entry_named("automation", name, self.index(index_id).automations, f"index {index_id!r}")
