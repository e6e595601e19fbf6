"""The prompt runs of the indexes that the configuration names, as the source has them now."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.selection import check_deliverable, missing_message
from vv_exports.errors import CredentialsError, NotFoundError, RequestError, SelectionError, VVExportsError
from vv_exports.printable import one_line
from vv_exports.sources.base import Listed, ListedRun, Listing, Platform, Source, UnreadableRun
from vv_exports.sources.check import both_deliver

_Run = TypeVar("_Run", bound=ListedRun)
_LOG = logging.getLogger(__name__)
_AUTOMATION_UNKNOWN = "whether index %s has an export automation at the platform is not known: %s"


class Indexes:
    """``configured`` are all index ids; ``delivered`` are those that this pipeline delivers by itself;
    ``is_erased`` tells of an index whether a run of it was erased: it is as if the source had it no more."""

    def __init__(
        self,
        source: Source,
        configured: Collection[str],
        delivered: Collection[str],
        is_erased: Callable[[str], Callable[[str], bool] | None] = lambda _: None,
    ) -> None:
        self._is_erased = is_erased
        self._source = source
        self._configured = configured
        self._not_asked_yet = set(delivered)

    def listing(self, index_id: str) -> Listing:
        """All runs of an index, and those whose record cannot be read. Raises NotFoundError."""
        self._check(index_id)
        listing = self._source.listing(index_id)
        self._warn_of_upstream_automation(index_id)
        return self.without_erased(index_id, listing)

    def each_run(self, index_id: str) -> Iterator[PromptRun | UnreadableRun]:
        """The same run by run, as ``Source.each_run`` gives them: those too that were erased, since only the source is
        asked. Raises NotFoundError."""
        self._check(index_id)
        return self._each_run(index_id)

    def _each_run(self, index_id: str) -> Iterator[PromptRun | UnreadableRun]:
        yield from self._source.each_run(index_id)
        self._warn_of_upstream_automation(index_id)

    def without_erased(self, index_id: str, listed: Listed[_Run]) -> Listed[_Run]:
        """What the source lists of an index, as if it did not have what was erased."""
        is_erased = self._is_erased(index_id)
        if is_erased is None or not any(map(is_erased, listed.run_ids)):
            return listed
        return Listed(
            [run for run in listed.runs if not is_erased(run.run_id)],
            {run_id: error for run_id, error in listed.problems.items() if not is_erased(run_id)},
        )

    def prompt_runs(self, index_id: str) -> Sequence[PromptRun]:
        """All runs of an index in the order (executed_at, run_id). Raises NotFoundError, and SourceDataError where the
        record of any cannot be read."""
        return self.listing(index_id).complete()

    def finished(self, index_id: str, run_ids: Sequence[str]) -> list[PromptRun]:
        """These finished runs of an index, in the order (executed_at, run_id). Raises SelectionError, or what the only
        one that cannot be exported raises."""
        self._check(index_id)
        runs, problems = [], []
        for run_id in run_ids:
            try:
                run = self._source.prompt_run(index_id, run_id)
                check_deliverable(run)
                is_erased = self._is_erased(index_id)
                if is_erased is not None and is_erased(run_id):
                    raise SelectionError(f"prompt run {run_id!r} of index {index_id!r} was erased")
                runs.append(run)
            except RequestError as error:
                problems.append(error)
        if len(problems) > 1:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise SelectionError(
                f"{len(problems)} of {len(run_ids)} prompt runs of index {index_id!r} cannot be exported, and nothing "
                f"was:\n{listed}"
            )
        if problems:
            raise problems[0]
        return sorted(runs, key=lambda run: (run.executed_at, run.run_id))

    def _check(self, index_id: str) -> None:
        if index_id not in self._configured:
            message = missing_message("index", [index_id], self._configured, "the configuration")
            raise NotFoundError(f"{message} Add it under `indexes` to export it.")

    def _warn_of_upstream_automation(self, index_id: str) -> None:
        """Once for each index that this pipeline delivers: it would be delivered twice. After its runs were listed:
        what keeps those from being read is said of them, and once."""
        if index_id not in self._not_asked_yet:
            return
        self._not_asked_yet.discard(index_id)
        if isinstance(self._source, Platform):
            try:
                automation = self._source.upstream_automation(index_id)
            except CredentialsError as error:  # what exports need may be allowed nevertheless
                _LOG.info(_AUTOMATION_UNKNOWN, one_line(index_id), error)
                return
            except VVExportsError as error:
                _LOG.warning(_AUTOMATION_UNKNOWN, one_line(index_id), error)
                return
            if automation is not None and automation.active:
                _LOG.warning("%s", both_deliver(index_id, automation))
