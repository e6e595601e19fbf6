"""Tags of Dagster runs in the configuration: which workers carry them out, and with what.

A launcher reads what is meant for it (`dagster-celery/queue`, `dagster-k8s/config`); the rest is for people who look
for runs. Tags by which Dagster or this package finds a run's work cannot be set here: another value is other work.
"""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from vv_exports.config.fields import null_is_empty, run_tag_key

_DAGSTERS = {"dagster/priority": "a whole number", "dagster/max_runtime": "a number of seconds"}
"""Those of Dagster's own that may be set, and what they must be."""
_OBJECTS = frozenset({"dagster-k8s/config"})
"""Those that their launcher reads as JSON."""
_LONGEST = 32_768


def _text(value: Any) -> str:
    """A tag's value as Dagster keeps it: text. What is written as a mapping becomes JSON."""
    if isinstance(value, bool) or value is None:
        raise ValueError("must be text, a number or a mapping; put it in quotes if it is text")
    if isinstance(value, Mapping | list):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("must be text, a number or a mapping")  # noqa: TRY004 - pydantic makes its errors of ValueError
    if len(value) > _LONGEST:
        raise ValueError(f"has {len(value):,} characters; it must have {_LONGEST:,} at most")
    return value


def _fit(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        if key in _OBJECTS and not _is_object(value):
            raise ValueError(
                f"{key} must be a mapping, or JSON of one, such as "
                "{container_config: {resources: {limits: {memory: 8Gi}}}}"
            )
        if key in _DAGSTERS and not _is_number(value, whole=key == "dagster/priority"):
            raise ValueError(f"{key} must be {_DAGSTERS[key]}, and is {value!r}")
        if not value:
            raise ValueError(f"{key} must not be empty")
    return tags


def _key(key: str) -> str:
    return run_tag_key(key, _DAGSTERS)


def _is_object(value: str) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


def _is_number(value: str, *, whole: bool) -> bool:
    try:
        return math.isfinite(int(value) if whole else float(value))
    except ValueError:
        return False


RunTags = Annotated[
    dict[
        Annotated[str, AfterValidator(_key)],
        Annotated[
            str,
            BeforeValidator(_text),
            WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "object"}]}),
        ],
    ],
    BeforeValidator(null_is_empty),
    AfterValidator(_fit),
]
