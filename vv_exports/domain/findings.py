"""What a check of something outside found: a source, a connector."""

from dataclasses import dataclass
from typing import Literal

from vv_exports.errors import VVExportsError


@dataclass(frozen=True)
class Finding:
    """One step of a check: what was tried, and what came of it. ``error`` is there where it failed."""

    step: str
    outcome: Literal["ok", "warning", "failed"]
    detail: str
    error: VVExportsError | None = None
