"""What is told of the answers of a run that break their prompt's schema: how many, where, and the first of each place.

Of a bounded size, whatever comes: a schema can be broken at as many places as a model can invent."""

from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa

from vv_exports.snapshots.contract import Contract, Violation

MOST_PLACES = 50
"""Places and keywords that are told one by one."""
EXAMPLES = 3
"""The first rows that are told of each."""
_LONGEST = 200


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A row that breaks the schema. ``pointer`` is the exact place in its ``metadata``."""

    video_id: str | None
    segment_id: str | None
    start_time: float | None
    pointer: str


class BrokenPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A place at which so many ``rows`` break a keyword of the schema. See ``contract.Violation``."""

    place: str
    keyword: str
    message: str
    rows: int
    examples: list[Example]


class ContractReport(msgspec.Struct, frozen=True, kw_only=True):
    """Of one table: of so many ``rows``, so many are ``broken``; ``places`` are told from the most rows to the fewest.
    ``others`` counts the rows for each place beyond MOST_PLACES. ``problem`` says why nothing could be checked."""

    rows: int
    broken: int = 0
    problem: str | None = None
    places: list[BrokenPlace] = []
    others: int = 0


class ContractCheck:
    """Checks the rows of one table, batch by batch."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._rows = self._broken = self._others = 0
        self._places: dict[tuple[str, str], BrokenPlace] = {}

    def add(self, batch: pa.RecordBatch, answers: pa.StringArray) -> Mapping[int, Sequence[Violation]]:
        """Check some rows, and say what is broken of them, by row."""
        found = self._contract.violations(batch, answers)
        self._rows += batch.num_rows
        self._broken += len(found)
        for row, violations in found.items():
            self._note(batch, row, violations)
        return found

    def _note(self, batch: pa.RecordBatch, row: int, violations: Sequence[Violation]) -> None:
        for key, one in {(one.place, one.keyword): one for one in reversed(violations)}.items():
            known = self._places.get(key)
            if known is None and len(self._places) >= MOST_PLACES:
                self._others += 1
                continue
            if known is None:
                known = BrokenPlace(
                    place=_cut(one.place), keyword=one.keyword, message=one.message, rows=0, examples=[]
                )
            examples = known.examples
            if len(examples) < EXAMPLES:
                examples = [*examples, _example(batch, row, one)]
            self._places[key] = msgspec.structs.replace(known, rows=known.rows + 1, examples=examples)

    @property
    def report(self) -> ContractReport:
        """What was found so far."""
        return ContractReport(
            rows=self._rows,
            broken=self._broken,
            problem=self._contract.problem,
            places=sorted(self._places.values(), key=lambda one: (-one.rows, one.place, one.keyword)),
            others=self._others,
        )


def _example(batch: pa.RecordBatch, row: int, violation: Violation) -> Example:
    told = {
        name: batch.column(name)[row].as_py() if name in batch.schema.names else None
        for name in ("video_id", "segment_id", "start_time")
    }
    return Example(pointer=_cut(violation.pointer), **told)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
