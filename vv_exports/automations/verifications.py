"""When a collection was last read again and compared with its log, and what came of it. Kept in the pipeline's storage,
so that who asks later need not read the files once more.

Layout: ``automations/<index>/<automation>/verification/<version>.json.zst``
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.domain.names import storage_segment

_KEPT = 20


class LastVerification(msgspec.Struct, frozen=True, kw_only=True):
    """``verify`` reads all files, a ``reconciliation`` some. ``problems`` are the first of ``problem_count``.
    ``mended`` are the first of ``mended_count`` prompt runs that were delivered again, since files of theirs were
    missing, damaged or left over. ``at`` is None where nothing was verified yet."""

    at: datetime | None = None
    by: Literal["verify", "reconciliation"] = "verify"
    uri: str = ""
    files: int = 0
    files_read: int = 0
    problems: tuple[str, ...] = ()
    problem_count: int = 0
    mended: tuple[str, ...] = ()
    mended_count: int = 0

    @classmethod
    def of(
        cls,
        by: Literal["verify", "reconciliation"],
        uri: str,
        now: datetime,
        *,
        files: int,
        files_read: int,
        problems: Sequence[str],
        mended: Sequence[str] = (),
    ) -> "LastVerification":
        """What a verification has found, as much of it as is kept."""
        return cls(
            at=now,
            by=by,
            uri=uri,
            files=files,
            files_read=files_read,
            problems=tuple(problems[:_KEPT]),
            problem_count=len(problems),
            mended=tuple(mended[:_KEPT]),
            mended_count=len(mended),
        )


class Verifications:
    """Of one automation's collection. Usable by several processes."""

    def __init__(self, storage: Connector, index_id: str, automation: str) -> None:
        folder = f"automations/{storage_segment(index_id)}/{storage_segment(automation)}/verification"
        self._last = VersionedDocument(storage, folder, LastVerification, LastVerification)

    def last(self) -> LastVerification:
        """The last one; one without ``at`` where there was none."""
        return self._last.read()

    def rewrite(self, text: Callable[[str], str]) -> None:
        """Let what was found be what ``text`` makes of it. No earlier version stays."""

        def rewritten(last: LastVerification) -> LastVerification | None:
            after = msgspec.structs.replace(last, problems=tuple(map(text, last.problems)))
            return after if after != last else None

        self._last.update(rewritten)
        self._last.settle()

    def note(self, found: LastVerification) -> None:
        """Keep what was found just now."""
        self._last.update(lambda before: found if before != found else None)
