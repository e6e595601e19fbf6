"""What pydantic found wrong, as one line each: the place in the file, the value, what is allowed."""

import re
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from vv_exports.config.connectors import PROVIDERS
from vv_exports.config.content import ContentConfig, FieldsConfig, FormatConfig
from vv_exports.config.dataset import DatasetConfig
from vv_exports.config.messages import Location, did_you_mean, dotted, shown
from vv_exports.config.models import SOURCES, AutomationConfig, Config, IndexConfig, IndexTemplate, ScheduleConfig
from vv_exports.config.notifications import TARGETS, NotificationsConfig
from vv_exports.config.table_formats import CATALOGS, IcebergConfig, TablesConfig

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
    "tuple_type": "must be a list",
}

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}
_OF_CONTENTS: dict[Location, type[BaseModel]] = {
    (): ContentConfig,
    ("format", "options"): FormatConfig,
    ("fields",): FieldsConfig,
}
_OF_AUTOMATIONS: dict[Location, type[BaseModel]] = {
    **_OF_CONTENTS,
    (): AutomationConfig,
    ("schedule",): ScheduleConfig,
    ("tables", "formats"): TablesConfig,
    ("tables", "formats", "iceberg"): IcebergConfig,
}
_KINDS = {"source": ("kind", SOURCES), "notifications": ("kind", TARGETS), "indexes": ("type", CATALOGS)}
_PLAIN: dict[Location, type[BaseModel]] = {
    (): Config,
    ("notifications",): NotificationsConfig,
    ("indexes",): IndexConfig,
    ("index_templates",): IndexTemplate,
}
_UNSHOWN = ("_env", "base_url", "endpoint_url")


def problem(error: ErrorDetails, within: Location = ()) -> str:
    """One line for one of pydantic's errors: the place in the file, the value, what is allowed. ``within`` is the place
    of what was looked at by itself."""
    location = (*within, *error["loc"])
    # What stands in these may be a secret that was put in the wrong place.
    value = "(not shown)" if location and str(location[-1]).endswith(_UNSHOWN) else shown(error["input"])
    at = dotted(_in_file(location)[len(within) :])
    match error["type"]:
        case "missing":
            field = _model_at(location[:-1]).model_fields[str(location[-1])]
            return f"{at}: is missing. {field.description}"
        case "extra_forbidden":
            # The value is not shown: an unknown key may well be a secret that does not belong here.
            known = list(_model_at(location[:-1]).model_fields)
            hint = did_you_mean(str(location[-1]), known)
            return f"{at}: is not a known key.{hint}"
        case "union_tag_invalid" | "union_tag_not_found":
            return _kind_problem(at, location, error["input"])
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{at}: {value} is not allowed.{did_you_mean(error['input'], allowed)}"
        case "value_error":
            reason = str(error["ctx"]["error"])
            return f"{at}: {reason}" if value in reason else f"{at}: {value}: {reason}"
        case kind:
            words, limit = _BOUNDS.get(kind, ("", ""))
            bound = f"must be {words} {_number(error['ctx'][limit])}" if words else error["msg"]
            fields = f" with {', '.join(_model_at(location).model_fields)}" if kind == "model_type" else ""
            return f"{at}: {value}: {_EXPECTED.get(kind, bound)}{fields}"


def _number(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"


def _kind_problem(at: str, location: Location, data: Any) -> str:
    field, known = _KINDS.get(str(location[0]), ("provider", PROVIDERS))
    if data is not None and not isinstance(data, dict):
        return f"{at}: {shown(data)}: {_EXPECTED['model_type']}"
    value = (data or {}).get(field)
    what = "is missing." if value is None else f"{shown(value)} is not supported by this version."
    return f"{at}.{field}: {what}{did_you_mean(value, known)}"


def _model_at(location: Location) -> type[BaseModel]:  # noqa: PLR0911
    """The model of the mapping at a place of pydantic's, which has a tag after a source, a connector or a format."""
    match location:
        case () | ("notifications",) | ("indexes" | "index_templates", _):
            return _PLAIN[location[:1]]
        case ("source", str(kind)) | ("notifications", "targets", _, str(kind)):
            return _KINDS[str(location[0])][1][kind]
        case ("connectors", _, str(provider)) | ("storage", str(provider)):
            return PROVIDERS[provider]
        case ("indexes" | "index_templates", _, "dataset"):
            return DatasetConfig
        case (
            "indexes" | "index_templates",
            _,
            "automations",
            _,
            "tables",
            "formats",
            "iceberg",
            "catalog",
            str(kind),
        ):
            return CATALOGS[kind]
        case ("indexes" | "index_templates", _, "automations", _, *rest):
            return _OF_AUTOMATIONS[tuple(rest)]
        case _:
            return _OF_CONTENTS[location[1:]]


def _in_file(location: Location) -> Location:
    """A place of pydantic's without the tag that tells kinds apart."""
    match location:
        case (*entry, "[key]"):
            return tuple(entry)
        case ("source" | "storage", _, *_):
            tag = 1
        case ("connectors", _, _, *_) | ("content", "format", _, *_):
            tag = 2
        case ("notifications", "targets", _, _, *_):
            tag = 3
        case ("indexes" | "index_templates", _, "automations", _, "tables", "formats", "iceberg", "catalog", _, *rest):
            return (*location[:5], *location[6:8], *rest)
        case ("indexes" | "index_templates", _, "automations", _, "format" | "tables", _, *_):
            tag = 5
        case _:
            return location
    return (*location[:tag], *location[tag + 1 :])
