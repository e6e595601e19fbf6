"""How far tables follow the delivery log, kept in the pipeline's storage. A hint: where it is lost, tables say it
themselves.

Layout: ``automations/<index>/<automation>/<format>/<version>.json.zst``
"""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.delivery.entry import LogEntry
from vv_exports.domain.failures import Problem
from vv_exports.domain.names import storage_segment
from vv_exports.table_formats.base import FormatName, Head


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """Why a table does not show the last entry. ``waits`` where files of its prompt are still to be delivered with the
    columns that the others have: that comes by itself. Else it failed, with ``problem``."""

    why: Literal["waits", "failed"]
    message: str
    problem: Problem | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Up to which ``entry`` of the log at ``uri`` all tables were looked after, and where each is. Those in ``behind``
    show an earlier one. ``problem`` is what kept all of them from being looked after the last time. ``delivery_id`` is
    the entry's own: a log that was lost begins anew with the same numbers, and is another one."""

    uri: str = ""
    entry: int = -1
    delivery_id: str = ""
    at: datetime | None = None
    heads: dict[str, Head] = {}
    behind: dict[str, Behind] = {}
    problem: Problem | None = None

    def is_at(self, uri: str, entry: LogEntry) -> bool:
        """Whether all is done up to an entry, and nothing is to be tried again."""
        is_there = (self.uri, self.entry, self.delivery_id) == (uri, entry.sequence, entry.delivery_id)
        return is_there and self.problem is None and not self.behind

    @property
    def failed(self) -> list[Problem]:
        """What failed, of all tables or of some."""
        of_tables = [one.problem for one in self.behind.values() if one.problem is not None]
        return [*([self.problem] if self.problem is not None else []), *of_tables]


class ProgressRecord:
    """Of the tables of one format of one automation. Usable by several processes."""

    def __init__(self, storage: Connector, index_id: str, automation: str, format_name: FormatName) -> None:
        folder = f"automations/{storage_segment(index_id)}/{storage_segment(automation)}/{format_name}"
        self._document = VersionedDocument(storage, folder, Progress, Progress)

    def read(self) -> Progress:
        """How far they are."""
        return self._document.read()

    def note(self, progress: Progress) -> None:
        """Keep how far they are by now."""
        self._document.update(lambda before: progress if before != progress else None)

    def rewrite(self, text: Callable[[str], str]) -> None:
        """Let messages be what ``text`` makes of them. No earlier version stays."""

        def rewritten(before: Progress) -> Progress | None:
            after = msgspec.structs.replace(
                before,
                problem=None if before.problem is None else before.problem.rewritten(text),
                behind={
                    name: msgspec.structs.replace(
                        one,
                        message=text(one.message),
                        problem=None if one.problem is None else one.problem.rewritten(text),
                    )
                    for name, one in before.behind.items()
                },
            )
            return after if after != before else None

        self._document.update(rewritten)
        self._document.settle()
