"""What is delivered of a snapshot, as its log knows it. The same snapshot as another content is delivered again.

A content has an id, of which a delivery's id is made; the log says of each entry what was delivered by it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vv_exports.content.selection import Selection
from vv_exports.delivery.columns import are_earlier_parquet
from vv_exports.delivery.state import EntryHead, Held, LogState, Replay
from vv_exports.domain.content_options import ContentOptions, FormatOptions
from vv_exports.domain.json_text import encode_sorted
from vv_exports.domain.redaction_key import key_id
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.tables import LAYOUT_VERSION, layouts_like

RedactionKey = Callable[[], bytes]
"""Gives the key of redaction by hash. Raises CredentialsError where there is none."""


def content_of(options: ContentOptions, key: RedactionKey) -> "Content":
    """What was chosen. The key is asked for where something is redacted by it."""
    return Content(options, key() if options.hashes else None)


@dataclass(frozen=True)
class Content:
    """What was chosen, and the version of the layout that files have. ``key`` is that of redaction by hash."""

    options: ContentOptions = field(default_factory=ContentOptions)
    key: bytes | None = field(default=None, repr=False)
    layout_version: int = LAYOUT_VERSION

    @cached_property
    def id(self) -> str:
        """A hash that tells it from any other: 64 hex characters."""
        return self._id_at(self.layout_version)

    @cached_property
    def ids(self) -> frozenset[str]:
        """Its own, and those that it has at the layouts of which files are as good."""
        return frozenset(map(self._id_at, layouts_like(self.layout_version)))

    def _id_at(self, layout_version: int) -> str:
        return hashlib.sha256(encode_sorted([layout_version, self.described])).hexdigest()

    @cached_property
    def described(self) -> dict[str, Any]:
        """What was chosen, as a log entry says it. The policy for conflicts is no part of it: no file shows it."""
        options = self.options
        chosen: dict[str, Any] = {
            "format": options.format.described,
            "tables": list(options.tables),
            "fields": {
                "include": None if options.fields.include is None else sorted(options.fields.include),
                "exclude": sorted(options.fields.exclude),
            },
            "redact": dict(sorted(options.redact.items())),
            "compression": options.compressed_with,
            "target_file_bytes": options.target_file_bytes,
        }
        if options.contract == "quarantine":  # no file shows the other policies
            chosen["contract"] = options.contract
        if self.key is not None:
            chosen["redaction_key_id"] = key_id(self.key)
        return chosen

    @cached_property
    def selection(self) -> Selection:
        """What is chosen and redacted of rows."""
        return Selection(self.options, self.key)

    def up_to_date(self, state: Replay) -> Callable[[Held], bool]:
        """Whether what a destination holds of a run is of this content, and has the columns that the files of its
        prompt's tables have by now."""
        are_documents = not self.options.format.has_columns
        known: dict[tuple[bool, int, str, frozenset[str]], bool] = {}

        def is_up_to_date(held: Held) -> bool:
            # Runs of one entry have the same columns, but for those of version 0.1: these share what they have, which
            # is there as long as the state.
            is_earlier = held.earlier is not None
            of = is_earlier, id(held.earlier) if is_earlier else held.entry.sequence, held.prompt_id, held.folders
            if of not in known:
                known[of] = self._is_in(held.entry) and (are_documents or state.has_columns_of(held))
            return known[of]

        return is_up_to_date

    def _is_in(self, entry: EntryHead) -> bool:
        """Whether an entry delivered this. Version 0.1 had no choice of content but the format, and delivered Parquet
        as it is delivered by default."""
        if are_earlier_parquet(entry):
            return self.described == _EARLIER.described
        return entry.content_id in self.ids

    def is_delivered(self, state: LogState, snapshot: Snapshot) -> bool:
        """Whether a destination holds this of a snapshot."""
        held = state.runs.get(snapshot.run_id)
        return held is not None and held.holds(snapshot.data_version, snapshot.status) and self.up_to_date(state)(held)


_EARLIER = Content(ContentOptions(format=FormatOptions("parquet")))
