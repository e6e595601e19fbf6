"""The content of an export on demand in the launchpad: the names of the configuration.

Choices that are closed are enums, so that the launchpad refuses a wrong one. Plain strings, not ``str`` fields of
dg.Config: those would let a launch read any environment variable into a path (``{env: NAME}``).
"""

from collections.abc import Mapping
from typing import Any, get_args

import dagster as dg

from vv_exports.config import content_options
from vv_exports.defs.dagster_internals import enum_or_shape
from vv_exports.domain.content_options import (
    DELIMITERS,
    FORMAT_NAMES,
    Compression,
    ContentOptions,
    ContractPolicy,
    CueKind,
    Formulas,
    OnSchemaConflict,
    RedactionMethod,
)
from vv_exports.domain.frame_rates import FRAME_RATES
from vv_exports.domain.tables import TABLES


def _enum(name: str, choices: tuple[str, ...]) -> dg.Enum:
    return dg.Enum(name, [dg.EnumValue(choice) for choice in choices])


_FORMAT = _enum("Format", FORMAT_NAMES)
_PATHS = dg.Field([str], is_required=False, description="Paths such as metadata.people[].name.")
_TIMING = dg.Field(str, is_required=False)

CONTENT_FIELDS: dict[str, dg.Field] = {
    "format": dg.Field(
        enum_or_shape(
            _FORMAT,
            {
                "name": dg.Field(_FORMAT, description="File format."),
                "delimiter": dg.Field(
                    _enum("Delimiter", DELIMITERS), is_required=False, description="csv: what is between two cells."
                ),
                "excel": dg.Field(bool, is_required=False, description="csv: begin with a byte order mark."),
                "formulas": dg.Field(
                    _enum("Formulas", get_args(Formulas)),
                    is_required=False,
                    description="csv: what to do with text that a spreadsheet would take for a formula.",
                ),
                "kind": dg.Field(
                    _enum("CueKind", get_args(CueKind)), is_required=False, description="webvtt: what the cues are."
                ),
                "text": dg.Field(
                    [str],
                    is_required=False,
                    description="webvtt, markers: the fields that a cue, or the name of a marker, shows, by path.",
                ),
                "note": dg.Field(
                    [str], is_required=False, description="markers: the fields that the note of a marker shows."
                ),
                "frame_rate": dg.Field(
                    _enum("FrameRate", tuple(FRAME_RATES)),
                    is_required=False,
                    description="markers: frames in a second of all videos.",
                ),
                "start_timecode": dg.Field(
                    str, is_required=False, description="markers: the timecode of the first frame of all videos."
                ),
                "videos": dg.Field(
                    {str: {"frame_rate": _TIMING, "start_timecode": _TIMING}},
                    is_required=False,
                    description="markers: the same of single videos, by video id.",
                ),
            },
        ),
        default_value="parquet",
        is_required=False,
        description="File format: its name, or a mapping with that and its options, such as {name: csv, "
        "delimiter: ';'}.",
    ),
    "tables": dg.Field(
        [_enum("Table", TABLES)], default_value=list(TABLES), is_required=False, description="The tables to export."
    ),
    "fields": dg.Field(
        {"include": _PATHS, "exclude": _PATHS},
        default_value={},
        is_required=False,
        description="The fields to export: those to include (default: all), without those to exclude.",
    ),
    "redact": dg.Field(
        {str: _enum("Redaction", get_args(RedactionMethod))},
        default_value={},
        is_required=False,
        description="What becomes of the values of fields, by path: drop, hash or mask.",
    ),
    "compression": dg.Field(
        _enum("Compression", get_args(Compression)),
        is_required=False,
        description="How files are compressed, of what the format has. Default: the format's.",
    ),
    "target_file_bytes": dg.Field(
        int, is_required=False, description="The size at which a table goes on in another file."
    ),
    "on_schema_conflict": dg.Field(
        _enum("OnSchemaConflict", tuple(name for name in get_args(OnSchemaConflict) if name != "hold")),
        default_value="new_version",
        is_required=False,
        description="What to do with a run whose prompt has another type in a place than an earlier one's.",
    ),
    "contract": dg.Field(
        _enum("Contract", get_args(ContractPolicy)),
        default_value="warn",
        is_required=False,
        description="What to do with rows that break their prompt's JSON Schema: deliver them, set them apart in the "
        "table quarantine, or refuse the export.",
    ),
}


def content_of(config: Mapping[str, Any]) -> ContentOptions:
    """The content that a launch asks for. Raises RequestError."""
    return content_options({name: config[name] for name in CONTENT_FIELDS if name in config})
