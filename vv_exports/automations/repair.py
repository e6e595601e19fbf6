"""Mending a collection: what is missing or altered is delivered again, and its log and its owner file are made whole.

It delivers what was there and is not any more, and nothing else that is due. It looks at each file and each entry, and
decides by them; nothing that it finds is deleted but what the log itself has abandoned.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from vv_exports.automations.automation import Automation
from vv_exports.automations.plan import AutomationPlan, plan
from vv_exports.automations.reconcile import Paid
from vv_exports.automations.records import Beginning
from vv_exports.automations.selection import Selection
from vv_exports.automations.standing import Standings
from vv_exports.automations.verifications import LastVerification
from vv_exports.delivery.deliver import Delivery
from vv_exports.delivery.deliveries import Deliveries
from vv_exports.delivery.entry import named_hash
from vv_exports.delivery.erase import erase_runs
from vv_exports.delivery.mending import Mending, complete, mending_of, move_what_is_behind
from vv_exports.delivery.survey import Survey, survey
from vv_exports.delivery.verify import damaged_files
from vv_exports.domain.destinations import OWNER, segments_of
from vv_exports.errors import VVExportsError
from vv_exports.printable import one_line
from vv_exports.snapshots.store import Snapshot
from vv_exports.sources.base import Listed, Listing
from vv_exports.sources.indexes import Indexes

_LOG = logging.getLogger(__name__)
_GONE = "it was delivered here, no entry of the log holds it any more, and neither the source nor a snapshot has it"
_WAITS = {
    "contract": "rows of it break its prompt's schema, which `contract: block` lets nobody deliver; set it to warn or "
    "quarantine, and run the same again",
    "conflict": "its prompt has types that the files of the prompt cannot hold, and `on_schema_conflict` lets it wait; "
    "set that to new_version or text, and run the same again",
}


@dataclass(frozen=True)
class Damage:
    """What is wrong with a collection, as far as something can be done. ``altered`` are files that are not what was
    delivered, with their runs; ``lost`` are runs that were delivered, and that no entry holds; ``gone`` are those of
    them that neither the source nor a snapshot has; ``erased`` are runs that
    were erased from it, and that an entry holds all the same. ``automation`` reads the log as it will be."""

    automation: Automation
    mending: Mending
    found: Survey
    altered: dict[str, str]
    lost: frozenset[str]
    gone: tuple[str, ...]
    erased: tuple[str, ...]
    owed: Standings

    @property
    def lacks_owner(self) -> bool:
        """Whether its owner file is missing, or names nobody."""
        return self.found.owner is None

    @cached_property
    def damaged(self) -> frozenset[str]:
        """The runs of which files are missing, altered or left over."""
        held = self.found.state.runs
        return frozenset({*self.found.runs_damaged, *self.altered.values(), *self.found.runs_unfinished(held)})

    @property
    def beyond(self) -> dict[str, str]:
        """Why runs that were delivered are not delivered again, where that is known before it is tried."""
        waiting = {
            run_id: _WAITS.get(one.why or "", "it waits")
            for run_id in sorted(self.damaged)
            if (one := self.owed.by_run.get(run_id)) is not None and one.state == "held"
        }
        return {**dict.fromkeys(self.gone, _GONE), **waiting}

    @property
    def todo(self) -> tuple[str, ...]:
        """The runs to deliver again. Of a collection of which nothing is left, those are all that are owed."""
        everything = self.owed.of("due", "failing") if not self.found.state.runs else ()
        wanted = (self.damaged | self.lost | set(everything)) - set(self.erased)
        return tuple(run_id for run_id in self.owed.of("due", "failing", "delivered") if run_id in wanted)


@dataclass(frozen=True)
class Repair:
    """What was done. ``delivered`` are prompt runs, ``problems`` says why others could not be."""

    mending: Mending
    owner_restored: bool
    delivered: tuple[str, ...]
    erased: tuple[str, ...]
    problems: dict[str, str]
    snapshots: Sequence[Snapshot]
    deliveries: Sequence[Delivery]


def listing_for(indexes: Indexes, index_id: str) -> Listing:
    """The runs of an index, for a repair: where the source is out of reach, none are, and what is kept has to do."""
    try:
        return indexes.listing(index_id)
    except VVExportsError as error:
        _LOG.warning("what is mended is mended from what is kept, since the source cannot be asked: %s", error)
        return Listed([])


def damage_of(
    automation: Automation,
    listing: Listing,
    now: Callable[[], datetime],
    delivered_before: Collection[str] = (),
    damaged: Collection[str] | None = None,
) -> Damage:
    """Look at all of a collection. Writes nothing. ``delivered_before`` is what something else remembers to have been
    delivered there: it counts where entries of the log are lost. ``damaged`` are the paths of files that are missing or
    altered, where that is known: none is read then.

    Raises DestinationError where the folder is not the automation's, DeliveredDataError for what is to be mended by
    hand.
    """
    was_ours = automation.places.is_at(automation.destination)
    mending = mending_of(automation.destination, automation.reference, now, was_ours=was_ours)
    mended = automation.reading(mending.as_mended)
    state = mended.collection()
    found = survey(mended.destination, state, now=now())
    if damaged is None:
        damaged = {file.path for file in damaged_files(mended.destination, state.files)}
    differing = set(damaged)
    altered = {file.path: file.prompt_run_id for file in state.files if file.path in differing}
    known = automation.snapshots.known(automation.index_id, listing, state.runs)
    told = () if mending.known is None else mending.known.runs
    # What an entry held of which nothing is left, files neither, nothing there tells.
    before = {*told, *(delivered_before if mending.replaced or not state.count else ())}
    # What no entry holds, and has a name as deliveries give it: as it was uploaded, or altered since.
    unknown = [path for path in found.beside.foreign if named_hash(path) and path not in found.links]
    of_files = _runs_of((*found.beside.strays, *unknown), known.rows)
    lost = frozenset({*before, *of_files.values()} - state.runs.keys())
    altered |= {path: of_files[path] for path in unknown if of_files.get(path) in lost}
    owed = mended.standings(
        known,
        beginning=Beginning.of(automation.config, listing.runs, now()),
        damaged={*found.runs_damaged, *altered.values()},
        unfinished=found.runs_unfinished(state.runs),
        named=lost,
    )
    tombstones = automation.snapshots.store.tombstones
    erased = tombstones.taken_out(state.runs, automation.index_id, automation.id)
    is_erased = tombstones.excluded(automation.index_id).has_run
    gone = tuple(sorted(run_id for run_id in lost - known.rows.keys() if not is_erased(run_id)))
    return Damage(mended, mending, found, altered, lost, gone, erased, owed)


def _runs_of(paths: Iterable[str], run_ids: Iterable[str]) -> dict[str, str]:
    """Of each file the run in whose folder it is, where that is one of these."""
    folders = {path: path.split("/")[-2].removeprefix("prompt_run_id=") for path in paths}
    if not folders:
        return {}
    wanted = set(folders.values())
    named = {segment: run_id for run_id in run_ids for segment in segments_of(run_id) if segment in wanted}
    return {path: named[segment] for path, segment in folders.items() if segment in named}


def repair(damage: Damage, deliveries: Deliveries, listing: Listing, dagster_run_id: str | None) -> Repair:
    """Mend a collection. Repeatable: killed anywhere, the same again completes it."""
    damage.automation.check_enabled()
    clock, mending = deliveries.clock, move_what_is_behind(damage.mending)
    automation = damage.automation.reading(mending.as_mended) if damage.mending.moved else damage.automation
    destination = automation.destination
    automation.claim_again(clock())
    if mending.replaced:
        # What tables name of lost entries is superseded by none: the next delivery would only add to it.
        automation.tables.look_anew()
    if damage.erased:
        erase_runs(destination, damage.erased, "they had been erased, and the log had lost that", clock)
    store = automation.snapshots.store
    if store.tombstones.excluded(automation.index_id).videos:
        # An erasure that could not reach this collection has left them as they are, and nobody may deliver that.
        for run_id in damage.todo:
            store.erase_media(automation.index_id, run_id, clock())
    paid, altered, again = Paid(), damage.altered, damage.damaged | damage.lost
    paid.pay(automation, deliveries, damage.owed, damage.todo, dagster_run_id, altered=altered, mending=again)
    # What was delivered again may have columns that the files of other runs have not.
    known = automation.snapshots.known(automation.index_id, listing, automation.collection().runs)
    outgrown = automation.standings(known)
    todo = tuple(run_id for run_id in outgrown.to_reshape() if run_id not in damage.owed.to_reshape())
    paid.pay(automation, deliveries, outgrown, todo, dagster_run_id, altered=altered)
    _remove_superseded(automation, clock())
    complete(mending, damage.erased)
    automation.follow_tables()
    automation.write_card()
    problems = {**damage.beyond, **{run_id: str(error) for run_id, error in paid.problems.items()}}
    automation.verifications.note(
        LastVerification.of(
            "reconciliation",
            destination.uri,
            clock(),
            files=len(damage.found.state.files),
            files_read=len(damage.found.state.files),
            problems=[f"prompt run {one_line(run_id)}: {problem}" for run_id, problem in problems.items()],
            mended=[run_id for run_id in damage.todo if run_id not in problems],
        )
    )
    return Repair(
        mending=damage.mending,
        owner_restored=damage.lacks_owner and destination.read(OWNER) is not None,
        delivered=tuple(run.run_id for one in paid.deliveries for run in one.prompt_runs),
        erased=damage.erased,
        problems=problems,
        snapshots=paid.snapshots,
        deliveries=paid.deliveries,
    )


def _remove_superseded(automation: Automation, now: datetime) -> None:
    """What the log has abandoned, also of runs that nobody delivers again."""
    destination = automation.destination
    over = survey(destination, automation.collection(), now=now).beside.superseded
    destination.connector.delete([destination.key(path) for path in sorted(over)])


def plan_repair(damage: Damage, listing: Listing, now: Callable[[], datetime]) -> AutomationPlan:
    """What ``repair`` would deliver. Writes nothing."""
    chosen = Selection(todo=damage.todo, there=(), history=())
    return plan(damage.automation, listing, damage.owed, chosen, now, damaged=frozenset(damage.altered))
