"""That the prompt runs of an index cannot be listed: what its automations are not told by anything that they do.

Layout: ``notifications/<index>/source/<version>.json.zst``
"""

from datetime import datetime

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.domain.failures import Problem, problem_of
from vv_exports.domain.names import storage_segment

PATIENCE = 3
"""Looks in a row that may fail with what may pass by itself, before somebody is told."""


class _Trouble(msgspec.Struct, frozen=True, kw_only=True):
    problem: Problem | None = None


class SourceTrouble:
    """Of one index. Usable by several processes."""

    def __init__(self, storage: Connector, index_id: str) -> None:
        folder = f"notifications/{storage_segment(index_id)}/source"
        self._trouble = VersionedDocument(storage, folder, _Trouble, _Trouble)

    def failed(self, error: Exception, now: datetime) -> None:
        """A look at the index has failed."""

        def after(before: _Trouble) -> _Trouble | None:
            return None if _is_told(before.problem) else _Trouble(problem=problem_of(error, before.problem, now))

        self._trouble.update(after)

    def is_well(self) -> None:
        """A look at the index went well."""
        self._trouble.update(lambda before: None if before.problem is None else _Trouble())

    def problem(self) -> Problem | None:
        """Why it cannot be listed, where that does not pass by itself."""
        problem = self._trouble.read().problem
        return problem if _is_told(problem) else None


def _is_told(problem: Problem | None) -> bool:
    return problem is not None and (problem.permanent or problem.attempts >= PATIENCE)
