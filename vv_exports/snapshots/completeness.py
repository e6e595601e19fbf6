"""Whether a run's segments add up: each that it began is among its results or its failures."""

from collections.abc import Mapping
from typing import Any

import msgspec

from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import SourceDataError


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """Segments of a run. ``expected`` are those that its record states, None where it states none; ``delivered`` those
    that have a result, ``failed`` those that are in its failures and have none; ``partly`` have both, since one
    operation of several failed, and are among those delivered; ``quarantined`` have a result that is set apart;
    ``erased`` were left out for good."""

    expected: int | None
    delivered: int
    failed: int
    partly: int = 0
    quarantined: int = 0
    erased: int = 0

    @classmethod
    def of_rows(
        cls, run: PromptRun, *, segments: int, failures: int, partly: int, erased: Mapping[Any, int]
    ) -> "Completeness":
        """That of a run of which so many rows are kept, and so many were erased by table."""
        expected, failed = run.count("total_segments"), failures - partly
        if expected == 0 and (segments or failures or any(erased.values())):
            expected = None  # as sources have it that do not count
        results, failures = erased.get("segments", 0), erased.get("failures", 0)
        gone = results + failures
        if expected is not None:  # of those, some may have had both
            gone = min(gone, max(results, failures, expected - segments - failed))
        return cls(expected=expected, delivered=segments, failed=failed, partly=partly, erased=gone)

    @property
    def missing(self) -> int:
        """How many segments are in no table; less than 0 where there are more than the run states."""
        if self.expected is None:
            return 0
        return self.expected - self.delivered - self.failed - self.quarantined - self.erased

    @property
    def balances(self) -> bool:
        """Whether nothing is missing, and nothing too much. What states no number is not known to miss anything."""
        return self.missing == 0

    def __str__(self) -> str:
        found = f"{self.delivered:,} delivered + {self.failed:,} failed + {self.quarantined:,} quarantined"
        found += f" + {self.erased:,} erased" if self.erased else ""
        if self.expected is None:
            return f"{found}; the run states no number of segments"
        if self.balances:
            return f"{self.expected:,} expected = {found}"
        amount = f"{self.missing:,} missing" if self.missing > 0 else f"{-self.missing:,} too many"
        return f"{self.expected:,} expected, {found}: {amount}"

    def with_quarantined(self, rows: int) -> "Completeness":
        """The same where so many of those with a result are set apart."""
        return msgspec.structs.replace(self, delivered=self.delivered - rows, quarantined=rows)


def check_balance(run_id: str, index_id: str, found: Completeness) -> None:
    """Raise SourceDataError for a run that does not add up."""
    if not found.balances:
        raise SourceDataError(
            f"prompt run {run_id!r} of index {index_id!r} does not add up: {found}. Its record states total_segments = "
            f"{found.expected}; each has to be among its results or its failed segments. Nothing was exported rather "
            "than a part: have the source give what is missing, or mend the record."
        )
