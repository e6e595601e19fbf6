"""What this deployment exports and where: the configuration file, its rules, and how it is found.

The models are the shape of the file. Rules that need more than one entry of it (a destination's connector,
two destinations that overlap) are checked after them, on all entries that are sound, so one reading tells
every problem. Nothing here opens a source or a connector.

To add a kind of source or a provider: a class, its line in ``SOURCES`` or ``PROVIDERS``, its member in
``SourceConfig`` or ``ConnectorConfig``.
"""

import copy
import difflib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from vv_exports.domain.destinations import check_subpath, comparable
from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.errors import ConfigurationError, DestinationError, NotFoundError

ENVIRONMENT_VARIABLE = "VV_EXPORTS_CONFIG"
FILE_NAME = "vv_exports.yaml"

_Location = tuple[int | str, ...]
_Entry = TypeVar("_Entry")


# --- values -----------------------------------------------------------------------------------------------


def _encodable(text: str) -> str:
    if any(unicodedata.category(character) == "Cs" for character in text):
        raise ValueError("holds half of a surrogate pair, which no storage can name")
    return text


def _absolute(value: str, info: ValidationInfo) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValueError("holds a control character")
    if "://" in value:
        return value
    folder = (info.context or {}).get("folder") or Path.cwd()
    return os.path.normpath(Path(folder, os.path.expanduser(value)))  # noqa: PTH111 - leaves ~unknown alone


def _base_path(value: str, info: ValidationInfo) -> str:
    if value in {"", ".", "./"}:
        return ""
    try:
        return check_subpath(value, boundary=info.data.get("root", "the connector's root"))
    except DestinationError as error:
        raise ValueError(str(error)) from error


_CRON_SHORTHANDS = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@yearly"})
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CRON_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _WEEKDAYS),
)
_CRON_ITEM = re.compile(r"(?:\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/0*[1-9][0-9]*)?")


def _cron(value: str) -> str:
    fields = value.lower().split()
    if value in _CRON_SHORTHANDS:
        return value
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError("must have five fields: minute, hour, day of the month, month, day of the week")
    for text, (name, low, high, words) in zip(fields, _CRON_FIELDS, strict=True):
        for item in text.split(","):
            found = _CRON_ITEM.fullmatch(item)
            ends = [_cron_number(end, low, words) for end in found.groups() if end] if found else [-1]
            if ends != sorted(ends) or any(not low <= end <= high for end in ends):
                raise ValueError(f"{item!r} does not fit the {name} ({low}-{high}, *, lists, ranges, /steps)")
    return value


def _cron_number(text: str, low: int, words: tuple[str, ...]) -> int:
    if text in words:
        return low + words.index(text)
    return int(text) if text.isdecimal() else -1


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("is not a time zone of the IANA database, such as UTC or Europe/Berlin") from error
    return value


def _gcs_bucket(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", value):
        raise ValueError("must be the name of a bucket: 3 to 222 of a-z 0-9 . _ - that begins and ends with a-z or 0-9")
    return value


def _storage_account(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]{3,24}", value):
        raise ValueError("must be the name of a storage account: 3 to 24 of a-z 0-9")
    return value


def _container(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){2,62}", value):
        raise ValueError("must be the name of a container: 3 to 63 of a-z 0-9 and single dashes between them")
    return value


def _bucket(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        raise ValueError("must be the name of a bucket: 3 to 63 of a-z 0-9 . - that begins and ends with a-z or 0-9")
    return value


def _store_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be an address such as https://minio.example:9000")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise ValueError("must hold no user, password, query or fragment")
    return value.rstrip("/")


_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


def _api_url(value: str) -> str:
    try:
        url = urlsplit(value)
        place = f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}"
    except ValueError as error:
        raise ValueError("must be an http or https address") from error
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be an address such as https://api.vectormethods.com/api/v2")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise ValueError(f"{place}…: must hold no user, password, query or fragment")
    if url.scheme == "http" and not _LOOPBACK.fullmatch(url.hostname):
        raise ValueError(f"{place}…: must be https, since the API key could be read on the way; http is for loopback")
    return value.rstrip("/")


def _variable_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) or value.lower().startswith("sk_"):
        raise ValueError(
            "must be the name of an environment variable, such as VIDEO_VECTOR_API_KEY. A key itself does not belong "
            "in this file: set the variable to it"
        )
    return value


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic makes its errors of ValueError
    return value


def _null_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _null_is_root(value: Any) -> Any:
    return "" if value is None else value


Id = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_encodable)]
AutomationName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_FINITE = Field(allow_inf_nan=False)
Place = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
"""A path, absolute after loading, or a URL."""


# --- models -----------------------------------------------------------------------------------------------


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _a_key_without_a_value_is_an_empty_mapping(cls, data: Any) -> Any:
        return _null_is_empty(data)


class LocalArchiveConfig(_Model):
    """Prompt runs in a folder."""

    kind: Literal["local_archive"] = Field(description="Prompt runs are read from a folder.")
    path: Place = Field(description="The archive's folder; a relative one is relative to this file's folder.")


class VideoVectorConfig(_Model):
    """Prompt runs at VideoVector."""

    kind: Literal["videovector"] = Field(description="Prompt runs are read from VideoVector's API.")
    base_url: Annotated[str, AfterValidator(_api_url)] = Field(
        default="https://api.vectormethods.com/api/v2", description="The API's address."
    )
    api_key_env: Annotated[str, AfterValidator(_variable_name)] = Field(
        default="VIDEO_VECTOR_API_KEY",
        description="The name of the environment variable that holds the API key. The scope read is enough.",
    )
    max_concurrency: Annotated[int, Field(ge=1, le=64), BeforeValidator(_no_boolean)] = Field(
        default=16, description="Requests under way at a time, for the whole process."
    )
    max_requests_per_second: Annotated[float, _FINITE, Field(gt=0), BeforeValidator(_no_boolean)] | None = Field(
        default=None,
        description="Requests that begin in a second, for the whole process. Without it only the server sets the pace: "
        "where it says that it had too many, all requests wait as long as it asks for.",
    )
    request_timeout_seconds: Annotated[float, _FINITE, Field(ge=1, le=600), BeforeValidator(_no_boolean)] = Field(
        default=60, description="Seconds that one request may take, to the last byte of its answer."
    )


class LocalConnectorConfig(_Model):
    """A folder of this machine, or one that is mounted."""

    provider: Literal["local"] = Field(description="Storage is a folder.")
    root: Place = Field(description="The folder; a relative one is relative to this file's folder.")
    export_base_path: Annotated[str, BeforeValidator(_null_is_root), AfterValidator(_base_path)] = Field(
        default="", description="Boundary inside the root that no export leaves. Empty: the root itself."
    )
    scopes: frozenset[Literal["import", "export"]] = Field(
        default=frozenset({"import"}),
        description="What the connector may be used for. A destination needs the export scope.",
    )

    @property
    def boundary(self) -> str:
        """The folder or URL that holds everything this connector may write."""
        return f"{self.root.rstrip('/')}/{self.export_base_path}" if self.export_base_path else self.root

    def real_boundary(self) -> str:
        """The boundary with links followed, so that two ways to one folder are equal."""
        path = self.boundary.removeprefix("file://")
        return path if "://" in path else Path(os.path.realpath(path)).as_posix()


class S3ConnectorConfig(_Model):
    """A bucket of Amazon S3, or of a store that speaks its protocol."""

    provider: Literal["s3"] = Field(description="Storage is a bucket of S3.")
    bucket: Annotated[str, AfterValidator(_bucket)] = Field(description="The bucket's name, without s3://.")
    export_base_path: Annotated[str, BeforeValidator(_null_is_root), AfterValidator(_base_path)] = Field(
        default="", description="Boundary inside the bucket that no export leaves. Empty: the whole bucket."
    )
    scopes: frozenset[Literal["import", "export"]] = Field(
        default=frozenset({"import"}),
        description="What the connector may be used for. A destination needs the export scope.",
    )
    region: str | None = Field(
        default=None, description="The bucket's region. Default: where the AWS SDK looks for it."
    )
    endpoint_url: Annotated[str, AfterValidator(_store_url)] | None = Field(
        default=None, description="The address of a store that is not Amazon's."
    )
    access_key_id_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds the access key id."
    )
    secret_access_key_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds the secret access key."
    )
    session_token_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds a session token."
    )
    sse: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="Server-side encryption to ask for. Default: the bucket's own."
    )
    kms_key_id: str | None = Field(default=None, description="The KMS key, with `sse: aws:kms`.")
    path_style: StrictBool = Field(
        default=False,
        description="Whether the bucket is named in the path, as many stores other than Amazon's want it.",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> "S3ConnectorConfig":
        if (self.access_key_id_env is None) != (self.secret_access_key_env is None):
            raise ValueError("access_key_id_env and secret_access_key_env belong together: name both, or neither")
        if self.session_token_env is not None and self.access_key_id_env is None:
            raise ValueError("session_token_env needs access_key_id_env and secret_access_key_env")
        if self.kms_key_id is not None and self.sse != "aws:kms":
            raise ValueError("kms_key_id needs `sse: aws:kms`")
        return self

    @property
    def boundary(self) -> str:
        """The URL that holds everything this connector may write."""
        return f"s3://{self.bucket}/{self.export_base_path}" if self.export_base_path else f"s3://{self.bucket}"

    def real_boundary(self) -> str:
        """The boundary, told apart from buckets of the same name in other stores."""
        return f"{self.endpoint_url or ''}{self.boundary}"


class GcsConnectorConfig(_Model):
    """A bucket of Google Cloud Storage."""

    provider: Literal["gcs"] = Field(description="Storage is a bucket of Google Cloud Storage.")
    bucket: Annotated[str, AfterValidator(_gcs_bucket)] = Field(description="The bucket's name, without gs://.")
    export_base_path: Annotated[str, BeforeValidator(_null_is_root), AfterValidator(_base_path)] = Field(
        default="", description="Boundary inside the bucket that no export leaves. Empty: the whole bucket."
    )
    scopes: frozenset[Literal["import", "export"]] = Field(
        default=frozenset({"import"}),
        description="What the connector may be used for. A destination needs the export scope.",
    )
    endpoint_url: Annotated[str, AfterValidator(_store_url)] | None = Field(
        default=None, description="The address of a store that is not Google's."
    )
    credentials_file_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        default=None,
        description="The name of the environment variable that holds the path of a service account's key file. "
        "Default: where Google's libraries look for credentials.",
    )
    anonymous: StrictBool = Field(
        default=False, description="Whether to ask without credentials, as emulators want it."
    )

    @model_validator(mode="after")
    def _belong_together(self) -> "GcsConnectorConfig":
        if self.anonymous and self.credentials_file_env is not None:
            raise ValueError("anonymous and credentials_file_env exclude each other: remove one")
        return self

    @property
    def boundary(self) -> str:
        """The URL that holds everything this connector may write."""
        return f"gs://{self.bucket}/{self.export_base_path}" if self.export_base_path else f"gs://{self.bucket}"

    def real_boundary(self) -> str:
        """The boundary, told apart from buckets of the same name in other stores."""
        return f"{self.endpoint_url or ''}{self.boundary}"


class AzureConnectorConfig(_Model):
    """A container of Azure Blob Storage."""

    provider: Literal["azure"] = Field(description="Storage is a container of Azure Blob Storage.")
    storage_account: Annotated[str, AfterValidator(_storage_account)] = Field(description="The storage account's name.")
    container: Annotated[str, AfterValidator(_container)] = Field(description="The container's name.")
    export_base_path: Annotated[str, BeforeValidator(_null_is_root), AfterValidator(_base_path)] = Field(
        default="", description="Boundary inside the container that no export leaves. Empty: the whole container."
    )
    scopes: frozenset[Literal["import", "export"]] = Field(
        default=frozenset({"import"}),
        description="What the connector may be used for. A destination needs the export scope.",
    )
    endpoint_url: Annotated[str, AfterValidator(_store_url)] | None = Field(
        default=None, description="The blob service's address, where it is not the account's at Azure."
    )
    account_key_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds the account's key."
    )
    connection_string_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds a connection string."
    )
    sas_token_env: Annotated[str, AfterValidator(_variable_name)] | None = Field(
        default=None,
        description="The name of the environment variable that holds a SAS token. Without any of the three: where "
        "Azure's libraries look for credentials.",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> "AzureConnectorConfig":
        if sum(bool(name) for name in (self.account_key_env, self.connection_string_env, self.sas_token_env)) > 1:
            raise ValueError("account_key_env, connection_string_env and sas_token_env exclude each other: keep one")
        return self

    @property
    def boundary(self) -> str:
        """The URL that holds everything this connector may write."""
        container = f"abfss://{self.container}@{self.storage_account}.dfs.core.windows.net"
        return f"{container}/{self.export_base_path}" if self.export_base_path else container

    def real_boundary(self) -> str:
        """The boundary, told apart from accounts of the same name elsewhere."""
        return f"{self.endpoint_url or ''}{self.boundary}"


SOURCES: dict[str, type[BaseModel]] = {"local_archive": LocalArchiveConfig, "videovector": VideoVectorConfig}
PROVIDERS: dict[str, type[BaseModel]] = {
    "local": LocalConnectorConfig,
    "s3": S3ConnectorConfig,
    "gcs": GcsConnectorConfig,
    "azure": AzureConnectorConfig,
}


def _told_apart_by(field: str) -> Discriminator:
    def tag(data: Any) -> str | None:
        value = data.get(field) if isinstance(data, dict) else getattr(data, field, None)
        return value if isinstance(value, str) else None

    return Discriminator(tag)


SourceConfig = Annotated[
    Annotated[LocalArchiveConfig, Tag("local_archive")] | Annotated[VideoVectorConfig, Tag("videovector")],
    _told_apart_by("kind"),
]
ConnectorConfig = Annotated[
    Annotated[LocalConnectorConfig, Tag("local")]
    | Annotated[S3ConnectorConfig, Tag("s3")]
    | Annotated[GcsConnectorConfig, Tag("gcs")]
    | Annotated[AzureConnectorConfig, Tag("azure")],
    _told_apart_by("provider"),
]


_AZURE_URL = re.compile(r"([^@/]+)@([^./]+)\.(?:dfs|blob)\.core\.windows\.net")


def _storage_place(value: str, info: ValidationInfo) -> "str | ConnectorConfig":
    """A path, or the connector that a URL stands for."""
    place = _absolute(value, info)
    scheme, separator, rest = place.partition("://")
    if not separator or scheme == "file":
        return place
    bucket, _, base = rest.partition("/")
    found = _AZURE_URL.fullmatch(bucket)
    options: dict[str, str]
    if scheme == "s3":
        options = {"provider": "s3", "bucket": bucket}
    elif scheme in {"gs", "gcs"}:
        options = {"provider": "gcs", "bucket": bucket}
    elif scheme in {"abfs", "abfss", "az"} and found:
        options = {"provider": "azure", "container": found[1], "storage_account": found[2]}
    else:
        raise ValueError(
            "must be a path, or s3://bucket/…, gs://bucket/…, abfss://container@account.dfs.core.windows.net/…; or a "
            "mapping with the fields of a connector"
        )
    try:
        connector: ConnectorConfig = PROVIDERS[options["provider"]].model_validate(  # type: ignore[assignment]
            {**options, "export_base_path": base.rstrip("/")}
        )
    except ValidationError as error:
        problems = (str(one.get("ctx", {}).get("error", one["msg"])) for one in error.errors())
        raise ValueError("; ".join(problems)) from error
    return connector


def _storage_tag(data: Any) -> str | None:
    """Everything but a mapping is taken for a place: that it should be text is then said in the usual way."""
    if not isinstance(data, dict):
        return "place" if not isinstance(data, BaseModel) else str(getattr(data, "provider", None))
    provider = data.get("provider")
    return provider if isinstance(provider, str) else None


StorageConfig = Annotated[
    Annotated[Annotated[str, Field(min_length=1), AfterValidator(_storage_place)], Tag("place")]
    | Annotated[LocalConnectorConfig, Tag("local")]
    | Annotated[S3ConnectorConfig, Tag("s3")]
    | Annotated[GcsConnectorConfig, Tag("gcs")]
    | Annotated[AzureConnectorConfig, Tag("azure")],
    Discriminator(_storage_tag),
]


class ScheduleConfig(_Model):
    """When an automation puts its collection right by the clock."""

    cron: Annotated[str, AfterValidator(_cron)] = Field(description="Five fields, as in crontab(5).")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="The IANA time zone that the cron line is in."
    )


class AutomationConfig(_Model):
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
    format: Literal["parquet", "jsonl", "csv", "json"] = Field(
        default="parquet", description="The format of the files."
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
        description="When the collection is compared with the index and put right. Deliveries need no schedule.",
    )
    start: Literal["now", "beginning"] = Field(
        default="now",
        description="What a new automation delivers by itself: runs that finish from now on, or all that there are.",
    )
    max_runs_per_delivery: Annotated[int, Field(ge=1, le=1000), BeforeValidator(_no_boolean)] = Field(
        default=100, description="Prompt runs that one Dagster run delivers, in one commit."
    )
    pause_after_failures: Annotated[int, Field(ge=1), BeforeValidator(_no_boolean)] | None = Field(
        default=3,
        description="Failures of the same permanent kind in a row (credentials, a missing bucket) after which the "
        "automation pauses itself. null: never.",
    )

    @property
    def subpath(self) -> str:
        """The collection's folder below the connector's export_base_path, checked and canonical."""
        if self.destination_subpath is None:
            raise DestinationError("an automation outside a configuration has no default subpath")
        return self.destination_subpath


class IndexConfig(_Model):
    """An index whose prompt runs are followed."""

    automations: Annotated[dict[AutomationName, AutomationConfig], BeforeValidator(_null_is_empty)] = Field(
        default={}, description="Export automations of the index, by name."
    )
    discovery_interval_seconds: Annotated[int, Field(ge=5, le=86_400), BeforeValidator(_no_boolean)] = Field(
        default=30, description="How often the source is asked for new and changed prompt runs."
    )


class _Destinations(_Model, extra="ignore"):
    connectors: Annotated[dict[Id, ConnectorConfig], BeforeValidator(_null_is_empty)] = Field(
        default={}, description="Storage that exports can go to, by connector id."
    )
    indexes: Annotated[dict[Id, IndexConfig], BeforeValidator(_null_is_empty)] = Field(
        default={}, description="The indexes to follow, by index id."
    )


class Config(_Destinations, extra="forbid"):
    """A loaded configuration: every rule holds, paths are absolute, subpaths are set."""

    source: SourceConfig = Field(description="Where prompt runs are read.")
    storage: StorageConfig = Field(
        description="Where snapshots and downloads are kept: a folder, the URL of a store whose credentials its SDK "
        "finds by itself, or a mapping with the fields of a connector."
    )

    def connector(self, connector_id: str) -> ConnectorConfig:
        """A connector. Raises NotFoundError."""
        return _entry("connector", connector_id, self.connectors, "the configuration")

    def index(self, index_id: str) -> IndexConfig:
        """An index. Raises NotFoundError."""
        return _entry("index", index_id, self.indexes, "the configuration")

    def automation(self, index_id: str, name: str) -> AutomationConfig:
        """An automation of an index. Raises NotFoundError."""
        return _entry("automation", name, self.index(index_id).automations, f"index {index_id!r}")


# --- reading ----------------------------------------------------------------------------------------------


def load_config(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration: ``path``, else the file that ``VV_EXPORTS_CONFIG`` names, else
    ``./vv_exports.yaml``, else the packaged demo configuration, whose paths start at the working directory.

    Raises:
        ConfigurationError: with every problem of the file, each with its place, the value, what is allowed.
    """
    file, folder, where = _file(path, os.environ if environ is None else environ)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(where, [f"cannot be read: {error}"]) from error
    return parse_config(text, folder=folder, where=where)


def parse_config(text: str, *, folder: Path, where: str) -> Config:
    """The configuration in a YAML text.

    Args:
        text: the YAML document.
        folder: what relative paths are relative to.
        where: the text's name in messages.

    Raises:
        ConfigurationError: with every problem of the text.
    """
    document = _Document()
    data = document.read(text, where)
    context = {"folder": folder.absolute()}
    problems = document.problems
    try:
        parts: _Destinations = Config.model_validate(data, context=context)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        problems += [_problem(each) for each in errors]
        parts = _Destinations.model_validate(_without_faulty(data, errors), context=context)
    declared = data.get("connectors") or {}
    indexes = _resolved(parts, declared if isinstance(declared, dict) else {}, problems)
    if problems or not isinstance(parts, Config):
        raise ConfigurationError(where, problems)
    return parts.model_copy(update={"indexes": indexes})


def config_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def config_place(environ: Mapping[str, str] | None = None) -> str:
    """Which file ``load_config`` reads, and why, for people."""
    return _file(None, os.environ if environ is None else environ)[2]


def _file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | Traversable, Path, str]:
    """The file to read, the folder that its relative paths are relative to, and how to speak of it."""
    if path:
        return path, path.parent, str(path)
    if named := environ.get(ENVIRONMENT_VARIABLE):
        return Path(named), Path(named).parent, f"{named} (from {ENVIRONMENT_VARIABLE})"
    usual = Path(FILE_NAME)
    # A dangling link is a file that went missing, which must not start the demo instead.
    if usual.exists() or usual.is_symlink():
        return usual, usual.parent, str(usual)
    demo = resources.files("vv_exports") / "demo" / FILE_NAME
    return demo, Path.cwd(), f"the packaged demo configuration (there is no {FILE_NAME} in {Path.cwd()})"


class _Document:
    """A YAML document as mappings, lists, text, booleans and nulls.

    Keys, and values that YAML would take for numbers or dates, are the text that stands in the file: an index
    id ``2026`` or ``on`` needs no quotes to stay what it is. A key that is there twice is a problem.
    """

    _LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _TAG = "tag:yaml.org,2002:"
    _TEXT_TAGS = frozenset({"str", "int", "float", "timestamp", "value", "merge"})

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, text: str, where: str) -> dict[str, Any]:
        """Raises ConfigurationError where there is no mapping to look at."""
        try:
            data = self._value(yaml.compose(text, Loader=self._LOADER), ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise ConfigurationError(where, [f"is not YAML{place}: {error.problem}"]) from error
        except yaml.YAMLError as error:
            raise ConfigurationError(where, [f"is not YAML: {error}"]) from error
        except RecursionError as error:
            raise ConfigurationError(where, ["is nested without end"]) from error
        if not isinstance(data, dict):
            keys = ", ".join(Config.model_fields)
            raise ConfigurationError(where, [f"holds {_shown(data)}; it must be a mapping with {keys}"])
        return data

    def _value(self, node: yaml.Node | None, at: _Location) -> Any:
        match node:
            case yaml.MappingNode():
                return self._mapping(node, at)
            case yaml.SequenceNode():
                return [self._value(item, (*at, place)) for place, item in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, at)
            case _:
                return None

    def _mapping(self, node: yaml.MappingNode, at: _Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key, str):
                self.problems.append(f"{_dotted(at)}: the key in line {line} must be text")
            elif key in values:
                where = f"lines {lines[key]} and {line}"
                self.problems.append(f"{_dotted((*at, key))}: is there twice, in {where}; keep one")
            else:
                lines[key] = line
                values[key] = self._value(value_node, (*at, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, at: _Location) -> Any:
        match node.tag.removeprefix(self._TAG):
            case "null":
                return None
            case "bool":
                return yaml.SafeLoader.bool_values.get(node.value.lower(), node.value)
            case tag if tag not in self._TEXT_TAGS:
                self.problems.append(f"{_dotted(at)}: the YAML tag {node.tag!r} is not supported; remove it")
        return node.value


# --- rules between entries --------------------------------------------------------------------------------


def _resolved(parts: _Destinations, declared: Collection[str], problems: list[str]) -> dict[str, IndexConfig]:
    """The indexes with every automation's subpath set; adds what is wrong to ``problems``.

    ``declared`` are the ids of all connectors in the file. One that is missing in ``parts`` has problems of
    its own, which are told already.
    """
    boundaries = {key: connector.real_boundary() for key, connector in parts.connectors.items()}
    folders: dict[str, str] = {}
    indexes = {}
    for index_id, index in parts.indexes.items():
        automations = {}
        for name, automation in index.automations.items():
            at = _dotted(_automation_at(index_id, name))
            problems += _connector_problems(at, automation, parts, declared)
            try:
                subpath = _subpath(index_id, automation, parts)
            except DestinationError as error:
                problems.append(f"{at}.destination_subpath: {error}")
                continue
            automations[name] = automation.model_copy(update={"destination_subpath": subpath})
            if automation.destination_connector_id in boundaries:
                folders[at] = f"{boundaries[automation.destination_connector_id]}/{subpath}"
        indexes[index_id] = index.model_copy(update={"automations": automations})
    problems += _overlap_problems(folders)
    return indexes


def _connector_problems(
    at: str, automation: AutomationConfig, parts: _Destinations, declared: Collection[str]
) -> Iterator[str]:
    connector_id = automation.destination_connector_id
    place = f"{at}.destination_connector_id: {_shown(connector_id)}"
    if connector_id not in declared:
        yield f"{place} is not a connector of this file.{_did_you_mean(connector_id, declared, 'There is')}"
    elif connector_id in parts.connectors and "export" not in parts.connectors[connector_id].scopes:
        scopes = ", ".join(sorted(parts.connectors[connector_id].scopes))
        at_connector = _dotted(("connectors", connector_id, "scopes"))
        yield f"{place} has the scopes [{scopes}]; a destination needs export in {at_connector}"


def _subpath(index_id: str, automation: AutomationConfig, parts: _Destinations) -> str:
    connector_id = automation.destination_connector_id
    connector = parts.connectors.get(connector_id)
    boundary = connector.boundary if connector else f"connector {connector_id!r}"
    if automation.destination_subpath is not None:
        return check_subpath(automation.destination_subpath, boundary=boundary)
    try:
        return check_subpath(index_id, boundary=boundary)
    except DestinationError as error:
        raise DestinationError(f"must be set, as the index id cannot stand in for it: {error}") from error


def _overlap_problems(folders: Mapping[str, str]) -> Iterator[str]:
    """``folders``: automation's place in the file -> its full folder."""
    taken: dict[tuple[str, ...], str] = {}
    by_place = {at: comparable(folder) for at, folder in folders.items()}
    for at, segments in sorted(by_place.items(), key=lambda each: len(each[1])):
        outer = next((taken[head] for n in range(len(segments) + 1) if (head := segments[:n]) in taken), None)
        if outer is None:
            taken[segments] = at
            continue
        yield (
            f"{at}.destination_subpath: delivers to {folders[at]!r}, which is the folder of {outer} "
            f"({folders[outer]!r}) or inside it; give each automation a folder of its own"
        )


def _without_faulty(data: Mapping[str, Any], errors: Iterable[ErrorDetails]) -> dict[str, Any]:
    """The file without what has problems of its own, for the rules between entries.

    An automation goes as a whole only where the problem hides where it delivers to.
    """
    rest = copy.deepcopy(dict(data))
    for error in errors:
        match error["loc"]:
            case ("connectors", connector_id, *_):
                rest["connectors"].pop(connector_id, None)
            case ("indexes", index_id, "automations", name, *field):
                automations = rest["indexes"].get(index_id, {}).get("automations", {})
                if field and field[0] not in {"destination_connector_id", "destination_subpath", "[key]"}:
                    automations.get(name, {}).pop(field[0], None)
                else:
                    automations.pop(name, None)
            case ("indexes", index_id, *_):
                rest["indexes"].pop(index_id, None)
            case (key, *_):
                rest.pop(str(key), None)
    return rest


# --- messages ---------------------------------------------------------------------------------------------

_EXPECTED = {
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "finite_number": "must be a number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "frozen_set_type": "must be a list",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "model_type": "must be a mapping",
    "string_pattern_mismatch": "must be 1 to 100 of A-Z a-z 0-9 . _ - and begin with a letter or a digit",
    "string_too_long": "must be at most 512 characters",
    "string_too_short": "must not be empty",
    "string_type": "must be text; put it in quotes if it is",
    "too_short": "must not be empty",
}

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}
_UNSHOWN = ("_env", "base_url", "endpoint_url")


def _problem(error: ErrorDetails) -> str:
    """One line for one of pydantic's errors: the place in the file, the value, what is allowed."""
    location = error["loc"]
    # What stands in these may be a secret that was put in the wrong place.
    value = "(not shown)" if location and str(location[-1]).endswith(_UNSHOWN) else _shown(error["input"])
    at = _dotted(_in_file(location))
    match error["type"]:
        case "missing":
            field = _model_at(location[:-1]).model_fields[str(location[-1])]
            return f"{at}: is missing. {field.description}"
        case "extra_forbidden":
            # The value is not shown: an unknown key may well be a secret that does not belong here.
            known = list(_model_at(location[:-1]).model_fields)
            hint = _did_you_mean(str(location[-1]), known)
            return f"{at}: is not a known key.{hint}"
        case "union_tag_invalid" | "union_tag_not_found":
            return _kind_problem(at, location, error["input"])
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{at}: {value} is not allowed.{_did_you_mean(error['input'], allowed)}"
        case "value_error":
            reason = str(error["ctx"]["error"])
            return f"{at}: {reason}" if value in reason else f"{at}: {value}: {reason}"
        case kind:
            words, limit = _BOUNDS.get(kind, ("", ""))
            bound = f"must be {words} {error['ctx'][limit]:g}" if words else error["msg"]
            return f"{at}: {value}: {_EXPECTED.get(kind, bound)}"


def _kind_problem(at: str, location: _Location, data: Any) -> str:
    field, known = ("kind", SOURCES) if location[0] == "source" else ("provider", PROVIDERS)
    if data is not None and not isinstance(data, dict):
        return f"{at}: {_shown(data)}: {_EXPECTED['model_type']}"
    value = (data or {}).get(field)
    what = "is missing." if value is None else f"{_shown(value)} is not supported by this version."
    return f"{at}.{field}: {what}{_did_you_mean(value, known)}"


def _model_at(location: _Location) -> type[BaseModel]:
    """The model of the mapping at a place of pydantic's, which has a tag after a source or connector."""
    match location:
        case ():
            return Config
        case ("source", str(kind)):
            return SOURCES[kind]
        case ("connectors", _, str(provider)) | ("storage", str(provider)):
            return PROVIDERS[provider]
        case ("indexes", _):
            return IndexConfig
        case ("indexes", _, "automations", _):
            return AutomationConfig
        case _:
            return ScheduleConfig


def _in_file(location: _Location) -> _Location:
    match location:
        case (*entry, "[key]"):
            return tuple(entry)
        case (("source" | "storage") as section, _, *rest):
            return (section, *rest)
        case ("connectors", connector_id, _, *rest):
            return ("connectors", connector_id, *rest)
        case _:
            return location


def _automation_at(index_id: str, name: str) -> _Location:
    return ("indexes", index_id, "automations", name)


def _dotted(location: _Location) -> str:
    """A place in the file; a key that would blur the path is in quotes."""
    return (
        ".".join(str(part) if re.fullmatch(r"[\w-]+", str(part)) else _shown(part) for part in location) or "the file"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"  # noqa: PLR2004


def _did_you_mean(wrong: Any, known: Collection[str], all_are: str = "Allowed") -> str:
    """What to use instead: the nearest name, and all there are up to twenty. Begins with a blank."""
    close = difflib.get_close_matches(str(wrong), known, n=1)
    names = sorted(known)[:20]
    more = f" and {len(known) - len(names)} more" if len(known) > len(names) else ""
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} {all_are}: {', '.join(names) or 'none'}{more}"


def _entry(noun: str, wanted: str, known: Mapping[str, _Entry], where: str) -> _Entry:
    if wanted in known:
        return known[wanted]
    raise NotFoundError(f"{where} has no {noun} {_shown(wanted)}.{_did_you_mean(wanted, known, 'There is')}")
