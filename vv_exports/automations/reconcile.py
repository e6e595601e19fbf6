"""Comparing a whole collection with its index by the clock, and putting it right."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from vv_exports.automations.automation import Automation
from vv_exports.automations.deliver import deliver_batch, take_snapshots
from vv_exports.automations.standing import Standings
from vv_exports.automations.verifications import LastVerification
from vv_exports.delivery.deliver import Delivery
from vv_exports.delivery.deliveries import Deliveries
from vv_exports.delivery.survey import survey
from vv_exports.delivery.verify import damaged_files
from vv_exports.printable import one_line
from vv_exports.snapshots.store import Snapshot
from vv_exports.sources.base import Listing

SAMPLE = 20
"""Files that are read again and compared with their hash, at each reconciliation. ``verify`` reads all."""


@dataclass(frozen=True)
class Reconciliation:
    """Prompt run ids. ``missing`` were not delivered, ``changed`` were delivered with another content, in another
    format or with other columns, ``damaged`` have a file too few, too many, cut short, or of another content.
    ``delivered`` are those of them that are put right now; ``problems`` says why others are not. ``verified`` files
    were read and compared with their hash."""

    prompt_runs: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    damaged: tuple[str, ...]
    delivered: tuple[str, ...]
    problems: dict[str, str]
    verified: int
    snapshots: Sequence[Snapshot]
    deliveries: Sequence[Delivery]


@dataclass
class Paid:
    """What has been delivered so far, of which snapshots, and why other runs were not."""

    snapshots: list[Snapshot] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    problems: dict[str, Exception] = field(default_factory=dict)

    def pay(
        self,
        automation: Automation,
        deliveries: Deliveries,
        debts: Standings,
        run_ids: Sequence[str],
        dagster_run_id: str | None,
        *,
        altered: Collection[str],
        mending: Collection[str] = (),
    ) -> None:
        """Deliver runs. Files in ``altered`` are written again; runs in ``mending`` need no source where there is a
        snapshot."""
        for some in debts.batches(run_ids, automation.config.max_runs_per_delivery):
            batch = take_snapshots(automation, some, deliveries.clock(), mending)
            outcome = deliver_batch(automation, deliveries, batch, dagster_run_id, frozenset(altered))
            self.snapshots.extend(batch.snapshots)
            self.deliveries.extend(outcome.deliveries)
            self.problems.update({**batch.problems, **outcome.problems})


def reconcile(
    automation: Automation, deliveries: Deliveries, listing: Listing, dagster_run_id: str | None
) -> Reconciliation:
    """Pay what the automation owes to its collection, what is failing included.

    Looks at the names and sizes of all delivered files, and reads some of them.
    """
    automation.check_enabled()
    automation.claim_again(deliveries.clock())
    state = automation.collection()
    found = survey(automation.destination, state, now=deliveries.clock())
    sample = state.files if len(state.files) <= SAMPLE else random.sample(state.files, SAMPLE)
    altered = {file.path: file.prompt_run_id for file in damaged_files(automation.destination, sample)}
    unfinished = found.runs_unfinished(state.runs)
    damaged = {*found.runs_damaged, *altered.values()}
    known = automation.snapshots.known(automation.index_id, listing, state.runs)
    owed = automation.standings(known, damaged=damaged, unfinished=unfinished)
    todo = owed.of("due", "failing")
    paid = Paid(problems=dict(listing.problems))
    paid.pay(automation, deliveries, owed, todo, dagster_run_id, altered=altered)
    # What was new may have brought columns that the files of other runs have not.
    known = automation.snapshots.known(automation.index_id, listing, automation.collection().runs)
    by_now = automation.standings(known)
    paid.pay(automation, deliveries, by_now, outgrown := by_now.to_reshape(), dagster_run_id, altered=altered)
    automation.follow_tables()
    automation.write_card()
    problems = paid.problems
    whys = {**dict.fromkeys(outgrown, "reshape"), **{run_id: owed.by_run[run_id].why for run_id in todo}}
    was_damaged = [run_id for run_id in todo if run_id in damaged or run_id in unfinished]
    automation.verifications.note(
        LastVerification.of(
            "reconciliation",
            automation.destination.uri,
            deliveries.clock(),
            files=len(state.files),
            files_read=len(sample),
            problems=[f"prompt run {one_line(one)}: {problems[one]}" for one in was_damaged if one in problems],
            mended=[run_id for run_id in was_damaged if run_id not in problems],
        )
    )
    return Reconciliation(
        prompt_runs=len(owed.of("delivered", "due", "failing")),
        missing=tuple(run_id for run_id, why in whys.items() if why == "missing"),
        changed=tuple(run_id for run_id, why in whys.items() if why in {"changed", "reshape"}),
        damaged=tuple(was_damaged),
        delivered=tuple(run.run_id for delivery in paid.deliveries for run in delivery.prompt_runs),
        problems={run_id: str(error) for run_id, error in problems.items()},
        verified=len(sample),
        snapshots=paid.snapshots,
        deliveries=paid.deliveries,
    )
