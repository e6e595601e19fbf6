"""Prompt runs that are deleted at the source, and erasing them where automations say ``on_upstream_delete: erase``.

An erasure cannot be taken back, and a source can fail to list what it has. So a run is erased only where two looks at
the index, a minute apart, did not find it, the source answers that it has no such run, not many are missing at once,
and this very source had it. All else is said, with the command by which a person decides.
"""

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from vv_exports.automations.automation import Automation
from vv_exports.erasure import ErasureReport, History, erase
from vv_exports.errors import NotFoundError, VVExportsError, first_few
from vv_exports.pipeline import Pipeline
from vv_exports.printable import counted, one_line
from vv_exports.sources.base import Listed, ListedRun

REASON = "deleted upstream"
CONFIRMED_AFTER = timedelta(minutes=1)
_ONE_IN = 10
NAMED = 5
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deletions:
    """Prompt runs that are kept or delivered here, and that the source has no more. ``due`` are to be erased;
    ``waiting`` are not known to be deleted yet; of those in ``held`` a person has to decide, for the reason
    ``why_held``."""

    index_id: str
    due: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    why_held: str = ""

    @property
    def lines(self) -> list[str]:
        """What is to be said of those that are not erased."""
        said = []
        if self.waiting:
            seconds = int(CONFIRMED_AFTER.total_seconds())
            said.append(
                f"{counted(len(self.waiting), 'prompt run')} not found at the source: {_few(self.waiting)}; erased "
                f"when a look after {seconds} seconds does not find them, and the source says that it has them no more"
            )
        if self.held:
            more = f" (all {len(self.held)}, each with --run)" if len(self.held) > NAMED else ""
            said.append(
                f"{counted(len(self.held), 'prompt run')} not found at the source and not erased, since "
                f"{self.why_held}: {_few(self.held)}. Where they were deleted on purpose: `{self._command}`{more}"
            )
        return said

    @property
    def _command(self) -> str:
        runs = " ".join(f"--run {shlex.quote(run_id)}" for run_id in self.held[:NAMED])
        return one_line(f"vv-exports erase {runs} --index {shlex.quote(self.index_id)} --reason {shlex.quote(REASON)}")


def erasing(automations: Iterable[Automation], index_id: str) -> list[Automation]:
    """Those of an index that erase what is deleted upstream."""
    return [one for one in automations if one.index_id == index_id and one.config.on_upstream_delete == "erase"]


def mark_missing(
    pipeline: Pipeline, index_id: str, listing: Listed[ListedRun], partitions: Iterable[str] = ()
) -> list[str]:
    """Remember which of the runs that are known here the source has no more, and since when; ``partitions`` are those
    that Dagster knows and that are not listed. Nothing is deleted. Returns those that were not missing before."""
    catalogs, there = pipeline.snapshots.catalogs, listing.run_ids
    missing = {*partitions, *(run_id for run_id in catalogs.read(index_id).runs if run_id not in there)}
    for automation in erasing(pipeline.automations, index_id):
        try:
            missing |= automation.holdings().runs.keys() - there
        except VVExportsError as error:  # its own sensor fails, and says so
            _LOG.warning("what %s holds is not known: %s", automation.destination.uri, error)
    new = catalogs.mark_gone(index_id, missing, pipeline.now(), pipeline.source_identity())
    is_erased = pipeline.snapshots.store.tombstones.excluded(index_id).has_run
    return [run_id for run_id in new if not is_erased(run_id)]


def deletions_of(
    pipeline: Pipeline, index_id: str, listing: Listed[ListedRun], automations: Sequence[Automation]
) -> Deletions:
    """What is deleted upstream of what these automations, which erase that, hold, and of what is kept. Asks the source
    for each run that would be erased; writes nothing. Raises what reading a log raises, and what the source does where
    it cannot tell whether it has the index."""
    if not automations:
        return Deletions(index_id)
    catalog = pipeline.snapshots.catalogs.read(index_id)
    known = set(catalog.runs).union(*(one.holdings().runs for one in automations))
    missing = known - listing.run_ids
    is_erased = pipeline.snapshots.store.tombstones.excluded(index_id).has_run
    due = {run_id for run_id in missing if is_erased(run_id)}  # decided already, and not carried out everywhere
    missing -= due
    never_seen = missing if catalog.source != pipeline.source_identity() else missing & catalog.never_seen
    lost = missing - never_seen
    most = max(1, len(known) // _ONE_IN)
    if lost and not listing.run_ids:
        why_held, held = "the source lists no prompt run of the index at all", missing
    elif len(lost) > most:
        why_held, held = f"that is more than {most} of {counted(len(known), 'prompt run')} at once", missing
    else:
        why_held, held = "this source, as it is configured now, is not known to have had them", never_seen
    seen = sorted(missing - held)
    now = pipeline.now()
    confirmed = [one for one in seen if (since := catalog.gone.get(one)) is not None and now - since >= CONFIRMED_AFTER]
    confirmed = [run_id for run_id in confirmed if _is_deleted(pipeline, index_id, run_id)]
    if confirmed:
        pipeline.source.index(index_id)  # a source that has the index no more has no run of it either
    due.update(confirmed)
    return Deletions(
        index_id,
        due=tuple(sorted(due)),
        waiting=tuple(run_id for run_id in seen if run_id not in due),
        held=tuple(sorted(held)),
        why_held=why_held,
    )


def erase_deleted(
    pipeline: Pipeline, deletions: Deletions, automations: Sequence[Automation], history: History
) -> ErasureReport | None:
    """Erase what is due from these automations' collections, and from what the pipeline keeps."""
    if not deletions.due:
        return None
    return erase(
        pipeline,
        "run",
        *deletions.due,
        index_ids=[deletions.index_id],
        reason=REASON,
        history=history,
        only=[one.id for one in automations],
    )


def _is_deleted(pipeline: Pipeline, index_id: str, run_id: str) -> bool:
    try:
        pipeline.source.prompt_run(index_id, run_id)
    except NotFoundError:
        return True
    except VVExportsError as error:
        _LOG.warning("whether prompt run %s was deleted is not known: %s", one_line(run_id), error)
        return False
    _LOG.warning("prompt run %s is not listed, and the source has it", one_line(run_id))
    return False


def _few(run_ids: Sequence[str]) -> str:
    return ", ".join(first_few(list(map(one_line, run_ids)), NAMED))
