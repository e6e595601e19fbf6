"""All that is checked of an index: gathers what each check needs, from records and logs."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.checks.completeness import completeness, not_whole
from vv_exports.checks.contract import Answers, contract
from vv_exports.checks.freshness import freshness
from vv_exports.checks.outcome import SHOWN, CheckOutcome
from vv_exports.checks.schema_change import last_news, schema_change
from vv_exports.checks.tables import tables
from vv_exports.checks.verification import verification
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.taking import Batch, Snapshots

_OPENED_AT_ONCE = 16


def checks_of_index(
    snapshots: Snapshots, index_id: str, automations: Sequence[Automation], now: datetime
) -> Iterator[CheckOutcome]:
    """Of the prompt runs of an index, all of them, and of each automation's collection.

    Opens the record of each snapshot, and no row of it; asks the source nothing."""
    yield completeness_of_index(snapshots, index_id)
    yield contract_of_index(snapshots, index_id)
    for automation in automations:
        yield from checks_of_collection(automation, now)


def completeness_of_index(snapshots: Snapshots, index_id: str) -> CheckOutcome:
    """Of all prompt runs of an index that were read, or were to be read and could not."""
    catalog = snapshots.catalogs.read(index_id)
    there = _opened(snapshots, index_id, catalog.runs)
    problems = {run_id: one for run_id, one in catalog.problems.items() if run_id not in catalog.gone}
    at = max((one.taken_at for one in there), default=None)
    return completeness(
        index_id, there, not_whole(problems), max((at, *(one.last_at for one in problems.values())), key=_or_never)
    )


def checks_of_batch(snapshots: Snapshots, index_id: str, batch: Batch, now: datetime) -> Iterator[CheckOutcome]:
    """Of the prompt runs that were read just now, and of what was wrong before and has not been put right since: what
    is read next must not hide it."""
    catalog = snapshots.catalogs.read(index_id)
    before = {run_id: one for run_id, one in catalog.problems.items() if run_id not in catalog.gone}
    for one in batch.snapshots:
        before.pop(one.run_id, None)
    yield completeness(index_id, batch.snapshots, {**not_whole(before), **not_whole(batch.problems)}, now)
    yield contract_of_index(snapshots, index_id)


def contract_of_index(snapshots: Snapshots, index_id: str) -> CheckOutcome:
    """Of all prompt runs of an index that were read."""
    return contract(index_id, ("prompt_runs",), *_answers(snapshots, index_id, snapshots.catalogs.read(index_id).runs))


def checks_of_collection(automation: Automation, now: datetime) -> Iterator[CheckOutcome]:
    """Of what an automation delivered."""
    index_id, name, destination = automation.index_id, automation.name, automation.destination
    state = automation.collection()
    catalog = automation.snapshots.catalogs.read(index_id).runs
    held = [
        run_id
        for run_id, run in state.runs.items()
        if (row := catalog.get(run_id)) is not None and row.data_version == run.run.data_version
    ]
    policy = automation.content.options.contract
    if policy == "block":  # what waits is what it is about
        waiting = automation.record.state().conflicts
        held += [
            run_id for run_id in waiting if run_id not in held and run_id in catalog and catalog[run_id].broken_rows
        ]
    yield contract(index_id, ("exports", name), *_answers(automation.snapshots, index_id, held), policy=policy)
    yield schema_change(index_id, name, last_news(destination, state))
    yield verification(index_id, name, destination.uri, automation.verifications.last())
    if (outcome := tables_of(automation)) is not None:
        yield outcome
    if (outcome := freshness_of(automation, now)) is not None:
        yield outcome


def tables_of(automation: Automation) -> CheckOutcome | None:
    """Of the tables of an automation; None where the configuration has none."""
    if not automation.tables.formats:
        return None
    last_entry = automation.holdings().next_sequence - 1
    uri, known = automation.destination.uri, automation.tables.progress()
    return tables(automation.index_id, automation.name, uri, last_entry, known)


def freshness_of(automation: Automation, now: datetime) -> CheckOutcome | None:
    """None where the configuration expects nothing."""
    every = automation.config.expected_within
    if every is None:
        return None
    last, beginning = automation.last_delivery_at(), automation.record.beginning()
    began_at = None if beginning is None else beginning.began_at
    return freshness(automation.index_id, automation.name, every, last, began_at, now)


def _answers(snapshots: Snapshots, index_id: str, run_ids: Iterable[str]) -> tuple[Answers, datetime | None]:
    """What is known of the answers of these runs, from the index's catalog; and when the last of them was read.

    Opens the records of some: those that were executed last."""
    rows = snapshots.catalogs.read(index_id).runs
    latest = sorted(run_ids, key=lambda run_id: (rows[run_id].executed_at, run_id), reverse=True)
    broken = {run_id: count for run_id in latest if (count := rows[run_id].broken_rows) is not None}
    unchecked = [run_id for run_id in latest if run_id not in broken]
    wanted = [*[run_id for run_id, count in broken.items() if count][:SHOWN], *unchecked[:1], *latest[:1]]
    opened = _opened(snapshots, index_id, dict.fromkeys(wanted))
    at = max((one.taken_at for one in opened), default=None)
    return Answers(broken, unchecked, opened), at


def _opened(snapshots: Snapshots, index_id: str, run_ids: Iterable[str]) -> list[Snapshot]:
    """The records of snapshots, but for what is damaged: that is read again."""
    with ThreadPoolExecutor(_OPENED_AT_ONCE, thread_name_prefix="checks") as threads:
        opened = threads.map(lambda run_id: snapshots.store.current(index_id, run_id), run_ids)
        return [one for one in opened if one is not None]


def _or_never(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()
