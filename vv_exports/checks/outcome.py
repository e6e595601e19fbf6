"""What a check says, and what there is to check: names, meanings, and how much each matters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from vv_exports.domain.names import dagster_key
from vv_exports.printable import counted, one_line

Severity = Literal["WARN", "ERROR"]
"""``ERROR``: what is delivered is not what it should be. ``WARN``: somebody should look at it."""

SHOWN = 20
"""Rows of a table, and prompt runs, that an outcome shows; its figures are of all."""

_NAMED = 3


class Kind(NamedTuple):
    """A check that there is. ``severity`` is that of its worst outcome; a ``blocking`` one keeps what is downstream in
    the same Dagster run from going on."""

    description: str
    severity: Severity
    blocking: bool = False


OF_PROMPT_RUNS: Mapping[str, Kind] = {
    "completeness": Kind(
        "Prompt runs add up: expected = delivered + failed + quarantined. One that does not is not delivered.",
        "ERROR",
        blocking=True,
    ),
    "contract": Kind("Answers are what their prompt's JSON Schema says.", "WARN"),
}
OF_A_COLLECTION: Mapping[str, Kind] = {
    "contract": Kind("Answers in the collection are what their prompt's JSON Schema says.", "WARN"),
    "schema_change": Kind(
        "The last delivery that brought results changed no column so that readers of a table have to look.",
        "WARN",
    ),
    "verification": Kind(
        "Files are what was delivered, by the last `vv-exports verify` or reconciliation.",
        "ERROR",
    ),
}
TABLES = Kind("Tables of open table formats show the last entry of the delivery log.", "WARN")
FRESHNESS = Kind("Something was delivered within the time that `expect_every` of the automation says.", "ERROR")


@dataclass(frozen=True)
class CheckOutcome:
    """Of one check of one asset, which is ``prompt_runs`` or ``exports/<automation>`` of the index.

    ``prompt_runs`` are those that it speaks of; ``at`` is when what it speaks of was seen, None where nothing was yet:
    then it has passed, and says so. ``figures`` are of all, ``rows`` the first of what it is about.
    """

    index_id: str
    path: tuple[str, ...]
    check: str
    passed: bool
    severity: Severity
    description: str
    at: datetime | None
    figures: Mapping[str, int | str] = field(default_factory=dict)
    prompt_runs: Sequence[str] = ()
    rows: Sequence[Mapping[str, str | int | None]] = ()

    @property
    def asset(self) -> str:
        """The asset as Dagster calls it."""
        return "/".join((dagster_key(self.index_id), *self.path))

    @property
    def outcome(self) -> Literal["passed", "not yet", "warning", "failed"]:
        """In a word."""
        if self.passed:
            return "passed" if self.at is not None else "not yet"
        return "failed" if self.severity == "ERROR" else "warning"

    @property
    def document(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "asset": self.asset,
            "check": self.check,
            "outcome": self.outcome,
            "severity": self.severity,
            "at": None if self.at is None else utc(self.at),
            "description": self.description,
            "figures": dict(self.figures),
            "prompt_runs": list(self.prompt_runs),
            "rows": [dict(row) for row in self.rows],
        }


def runs_named(run_ids: Iterable[str]) -> str:
    """Prompt runs by name, where they are few; else their number and the first."""
    names = list(run_ids)
    if len(names) <= _NAMED:
        return ("prompt run " if len(names) == 1 else "prompt runs ") + ", ".join(map(one_line, names))
    return f"{counted(len(names), 'prompt run')} ({', '.join(map(one_line, names[:2]))}, …)"


def utc(moment: datetime) -> str:
    """A moment as people and programs read it."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
