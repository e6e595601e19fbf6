"""How the segments of a prompt run cover its media: what a picture of it shows, and nothing that is not delivered."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.content.selection import Selection
from vv_exports.domain.tables import TableName
from vv_exports.snapshots.columns import Object
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.snapshots.tables import RUN_COLUMNS

_SHOWN = ("video_id", "video_name", "start_time", "end_time")
_MOST_SPANS = 2048
"""Of one medium: a run can have a million segments."""

Span = tuple[float, float]


class Spans:
    """Spans of time that arrive in the order of their beginnings, merged where they touch. Where there are too many,
    the narrowest gaps are closed."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._gap = 0.0
        self.end = 0.0

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def add(self, begin: float, end: float) -> None:
        """One more."""
        self.end = max(self.end, end)
        self._merge(begin, end)
        if len(self._spans) > _MOST_SPANS:
            self._gap = max(2 * self._gap, self.end / _MOST_SPANS)
            spans, self._spans = self._spans, []
            for one in spans:
                self._merge(*one)

    def _merge(self, begin: float, end: float) -> None:
        if self._spans and begin <= self._spans[-1][1] + self._gap:
            before = self._spans[-1]
            self._spans[-1] = before[0], max(before[1], end)
        else:
            self._spans.append((begin, end))


@dataclass
class Medium:
    """Seconds of one medium that have a result, and that failed, merged where they touch. ``rows`` and ``failures``
    count all, those without a time too. ``name`` is None where it is not to be seen."""

    name: str | None = None
    rows: int = 0
    failures: int = 0
    covered: Spans = field(default_factory=Spans)
    failed: Spans = field(default_factory=Spans)

    @property
    def end(self) -> float:
        """Where the last span ends, in seconds."""
        return max(self.covered.end, self.failed.end)


@dataclass(frozen=True)
class Coverage:
    """``media`` are the first ones, those with failures before others, each in the order of their ids; ``others`` is
    how many there are besides."""

    media: Sequence[Medium]
    others: int


def coverage_of(snapshot: Snapshot, store: SnapshotStore, shown: Selection, most: int) -> Coverage:
    """Of so many media of a run. ``shown`` is what may be seen of its rows. Raises SnapshotDamagedError."""
    with_failures = _media(store, snapshot, "failures")
    others = [one for one in _media(store, snapshot, "segments") if one not in set(with_failures)]
    chosen = [*with_failures, *others][:most]
    media = {video_id: Medium() for video_id in chosen}
    for table in ("segments", "failures"):
        for video_id, shown_id, name, begin, end in _rows(snapshot, store, shown, table, chosen):
            one = media[video_id]
            one.name = one.name or name or shown_id
            if table == "segments":
                one.rows += 1
            else:
                one.failures += 1
            if begin is not None and end is not None and math.isfinite(end) and max(begin, 0.0) <= end:
                # Nothing is before a medium's beginning, whatever a result says.
                (one.covered if table == "segments" else one.failed).add(max(begin, 0.0), end)
    return Coverage(list(media.values()), len(with_failures) + len(others) - len(media))


def _media(store: SnapshotStore, snapshot: Snapshot, table: TableName) -> list[str]:
    found: dict[str, None] = {}
    for batch in store.columns(snapshot, table, ["video_id"]):
        found.update(dict.fromkeys(pc.unique(batch.column(0)).to_pylist()))
    return sorted(one for one in found if one is not None)


def _rows(
    snapshot: Snapshot, store: SnapshotStore, shown: Selection, table: TableName, chosen: Sequence[str]
) -> Iterator[tuple[str, str | None, str | None, float | None, float | None]]:
    columns = snapshot.table(table).column
    fields = {name: one for name, one in columns.fields.items() if name in _SHOWN}
    column = replace(columns, fields=fields)
    names = [*RUN_COLUMNS, *fields, "rescued", "absent"]
    wanted = pa.array(chosen, pa.string())
    for whole in store.columns(snapshot, table, names):
        batch = whole.select(names).filter(pc.is_in(whole.column("video_id"), wanted))
        selected = _selected(batch, column, shown)
        yield from zip(
            batch.column("video_id").to_pylist(),
            *(
                selected.column(name).to_pylist() if name in selected.schema.names else [None] * len(batch)
                for name in _SHOWN
            ),
            strict=True,
        )


def _selected(batch: pa.RecordBatch, column: Object, shown: Selection) -> pa.RecordBatch:
    return shown.apply(batch, column) if shown.changes(column) else batch
