"""The values that a configuration may hold, one by one: what is allowed, and why something is not."""

import os
import re
import unicodedata
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, ValidationInfo, model_validator

from vv_exports.domain.destinations import check_subpath
from vv_exports.domain.field_paths import parse_path
from vv_exports.errors import DestinationError


def encodable(text: str) -> str:
    """Text that storage can name."""
    if any(unicodedata.category(character) == "Cs" for character in text):
        raise ValueError("holds half of a surrogate pair, which no storage can name")
    return text


def absolute(value: str, info: ValidationInfo) -> str:
    """A path, made absolute from the folder of the file; a URL stays."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValueError("holds a control character")
    if value.lower().startswith("file://") and not value.startswith("file:///"):
        raise ValueError("must be a path, or begin with file:///, and name no machine")
    if "://" in value:
        return value
    folder = (info.context or {}).get("folder") or Path.cwd()
    return os.path.normpath(Path(folder, os.path.expanduser(value)))  # noqa: PTH111 - leaves ~unknown alone


def of_this_machine(value: str) -> str:
    """A folder, and no URL of a store."""
    if "://" in value and not value.startswith("file:///"):
        raise ValueError("must be a folder; a store is a connector of its own provider")
    return value


_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", re.ASCII)
_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}", re.ASCII)
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}", re.ASCII)


def owner(value: str) -> str:
    """Somebody whom Dagster takes for the owner of an asset."""
    if not _ADDRESS.fullmatch(value) and not (value.startswith("team:") and value[len("team:") :].strip()):
        raise ValueError("must be an e-mail address, or a team as in `team:editorial`")
    return value


def tag_key(value: str) -> str:
    """A tag of an asset that is none of Dagster's own."""
    if not _TAG_KEY.fullmatch(value):
        raise ValueError("must be of letters, digits and `_.-`, 63 at most, with one prefix and `/` before it or none")
    if value.startswith("dagster/"):
        raise ValueError("begins with `dagster/`, which is Dagster's own")
    return value


def run_tag_key(value: str, of_dagster: Collection[str]) -> str:
    """A tag of Dagster runs by which nobody finds their work: ``of_dagster`` are those of its own that may be set."""
    if not _TAG_KEY.fullmatch(value):
        raise ValueError("must be of letters, digits and `_.-`, 63 at most, with one prefix and `/` before it or none")
    if value.startswith(("dagster/", ".dagster/")) and value not in of_dagster:
        allowed = " and ".join(f"`{one}`" for one in sorted(of_dagster))
        raise ValueError(f"is one of Dagster's own, of which only {allowed} may be set here")
    if value.startswith("vv_exports/"):
        raise ValueError("begins with `vv_exports/`, which is what this package tags runs with")
    return value


def tag_value(value: str) -> str:
    """What Dagster takes for the value of an asset's tag."""
    if not _TAG_VALUE.fullmatch(value):
        raise ValueError("must be of letters, digits and `_.-`, 63 at most")
    return value


def base_path(value: str, info: ValidationInfo) -> str:
    """A boundary below a root; empty for the root itself."""
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


def cron_line(value: str) -> str:
    """A line of crontab(5), or a shorthand."""
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


def timezone_name(value: str) -> str:
    """A time zone of the IANA database."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("is not a time zone of the IANA database, such as UTC or Europe/Berlin") from error
    return value


def _name_of(what: str, pattern: str, rule: str) -> Callable[[str], str]:
    def checked(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be the name of a {what}: {rule}")
        return value

    return checked


# By Amazon's rules, by Google's, and by Azure's.
bucket_name = _name_of(
    "bucket", r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 of a-z 0-9 . - that begins and ends with a-z or 0-9"
)
gcs_bucket_name = _name_of(
    "bucket", r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", "3 to 222 of a-z 0-9 . _ - that begins and ends with a-z or 0-9"
)
storage_account_name = _name_of("storage account", r"[a-z0-9]{3,24}", "3 to 24 of a-z 0-9")
container_name = _name_of(
    "container", r"[a-z0-9](-?[a-z0-9]){2,62}", "3 to 63 of a-z 0-9 and single dashes between them"
)


def store_url(value: str) -> str:
    """The address of a store, which holds no secret."""
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError as error:
        raise ValueError(f"is no address of the web: {error}") from error
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must begin with http:// or https://, such as https://minio.example:9000")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise ValueError("must hold no user, password, query or fragment")
    return value.rstrip("/")


_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


def api_url(value: str) -> str:
    """The address of VideoVector's API: encrypted, other than on this machine, and without a secret."""
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


def variable_name(value: str) -> str:
    """The name of an environment variable, and not what it is to hold."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) or value.lower().startswith("sk_"):
        raise ValueError(
            "must be the name of an environment variable, such as VIDEO_VECTOR_API_KEY. A key itself does not belong "
            "in this file: set the variable to it"
        )
    return value


def field_path(value: str) -> str:
    """The path of a field, as such paths are spelled."""
    return str(parse_path(value))


_DURATION = r"([1-9][0-9]{0,4})([hdw])"
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def duration_text(value: str) -> str:
    """A length of time, as people write it."""
    duration(value)
    return value


def duration(text: str) -> timedelta:
    """The length of time that a text stands for."""
    found = re.fullmatch(_DURATION, text)
    if found is None:
        raise ValueError("must be a duration: a number from 1 to 99999 and h, d or w, such as 12h, 30d or 8w")
    return int(found[1]) * _UNITS[found[2]]


def no_boolean(value: Any) -> Any:
    """Anything but true and false, which pydantic would take for numbers."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic makes its errors of ValueError
    return value


def null_is_empty(value: Any) -> Any:
    """A key without a value, where a mapping is meant."""
    return {} if value is None else value


def null_is_root(value: Any) -> Any:
    """A key without a value, where a path is meant."""
    return "" if value is None else value


Id = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(encodable)]
Duration = Annotated[
    str, AfterValidator(duration_text), Field(json_schema_extra={"pattern": f"^{_DURATION}$", "examples": ["30d"]})
]
AutomationName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
FINITE = Field(allow_inf_nan=False)
Place = Annotated[str, Field(min_length=1), AfterValidator(absolute)]
"""A path, absolute after loading, or a URL."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _a_key_without_a_value_is_an_empty_mapping(cls, data: Any) -> Any:
        return null_is_empty(data)


def told_apart_by(field: str) -> Discriminator:
    """Which model a mapping is for, by one of its fields."""

    def tag(data: Any) -> str | None:
        value = data.get(field) if isinstance(data, dict) else getattr(data, field, None)
        return value if isinstance(value, str) else None

    return Discriminator(tag)
