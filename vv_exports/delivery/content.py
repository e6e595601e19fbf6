"""What is delivered of a snapshot. The same snapshot as another content is delivered again.

A content has an id, of which a delivery's id is made; the log says of each entry what was delivered by it.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Self

from vv_exports.delivery.state import EntryHead, LogState
from vv_exports.domain.json_text import encode_sorted
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.tables import LAYOUT_VERSION


@dataclass(frozen=True)
class Content:
    """The format by its name, and the version of the layout that its rows have."""

    format: str
    layout_version: int = LAYOUT_VERSION

    @classmethod
    def of(cls, entry: EntryHead) -> Self:
        """What an entry delivered."""
        return cls(entry.format, entry.layout_version)

    @property
    def id(self) -> str:
        """A hash that tells it from any other: 64 hex characters."""
        return hashlib.sha256(encode_sorted(asdict(self))).hexdigest()

    def holds(self, state: LogState, run_id: str, data_version: str, status: str) -> bool:
        """Whether a destination holds this of a run."""
        held = state.runs.get(run_id)
        return (
            held is not None
            and (held.run.data_version, held.run.status) == (data_version, status)
            and self.of(held.entry) == self
        )

    def is_delivered(self, state: LogState, snapshot: Snapshot) -> bool:
        """Whether a destination holds this of a snapshot."""
        return self.holds(state, snapshot.run_id, snapshot.data_version, snapshot.status)
