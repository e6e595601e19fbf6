"""Export automations: their state, pausing and resuming, and what they deliver when asked."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from vv_exports.cli.commands import DONE, FAILED, INDEX, RUNS, Time, command, listing, open_client, record
from vv_exports.cli.plans import planned
from vv_exports.cli.rows import rows_in_words
from vv_exports.console import Console
from vv_exports.printable import counted, one_line

_NEWEST = 50
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be delivered; write nothing.")
DRY_RUN_OF_SWITCH = click.option("--dry-run", is_flag=True, help="Say what would change; write nothing.")


@command("list")
def list_(console: Console) -> None:
    """List automations: paused or not and by whom, what is delivered, what is due and why, the last error."""
    found = [vars(one) for one in open_client().automations.list()]
    if not console.as_json:
        found = [{**one, "due": _due(one)} for one in found]
    names = (
        "index_id",
        "automation",
        "enabled",
        "paused",
        "paused_by",
        "destination_uri",
        "delivered",
        "due",
        "failing",
        "held",
        "history",
        "last_delivery_at",
        "last_error",
    )
    listing(console, found, names, empty="no automations are configured")


@command("show", INDEX, click.argument("name"))
def show(console: Console, index: str, name: str) -> None:
    """Show one automation."""
    record(console, vars(open_client().automations.retrieve(index, name)))


@command(
    "history",
    INDEX,
    click.argument("name"),
    click.option("--run", "run_id", metavar="RUN", help="Only of this prompt run."),
    click.option("--limit", type=click.IntRange(min=1), default=_NEWEST, show_default=True, help="At most so many."),
)
def history(console: Console, index: str, name: str, *, run_id: str | None, limit: int) -> int:
    """Tell when which prompt run was delivered, replaced or erased, with how many rows before and after, and why: by
    the log at the destination, the newest first. Exits with 1 where entries of it cannot be read."""
    found = open_client().automations.history(index, name, run_id, limit=limit)
    if console.as_json:
        console.document(found)
    rows = [
        {
            "when": one.committed_at,
            "prompt_run": one.run_id,
            "what": one.what,
            "why": one.why,
            "rows_before": "-" if one.rows_before is None else rows_in_words(one.rows_before),
            "rows_after": rows_in_words(one.rows_after),
            "entry": one.entry,
        }
        for one in found.events
    ]
    nothing = "nothing was delivered" if run_id is None else f"nothing was delivered of {one_line(run_id)}"
    console.table(rows, empty=nothing if not rows else "")
    if found.left_out:
        console.line(f"These are the newest {limit} of {found.left_out + len(rows):,}: --limit lists more.")
    for problem in found.problems:
        console.note(f"Warning: more may have been delivered: {one_line(problem)}")
    return FAILED if found.problems else DONE


@command(
    "pause",
    INDEX,
    click.argument("name"),
    click.option("--reason", default="", metavar="TEXT", help="Why; the list and the UI show it."),
    DRY_RUN_OF_SWITCH,
)
def pause(console: Console, index: str, name: str, reason: str, *, dry_run: bool) -> None:
    """Let an automation wait. It keeps its place, and delivers what finished meanwhile when it is resumed."""
    client = open_client()
    if dry_run:
        _would_switch(console, client.automations.plan_switch(index, name, pause=True))
        return
    client.automations.pause(index, name, reason)
    _paused(console, client, index, name, "paused")


@command("resume", INDEX, click.argument("name"), DRY_RUN_OF_SWITCH)
def resume(console: Console, index: str, name: str, *, dry_run: bool) -> None:
    """Let a paused automation go on."""
    client = open_client()
    if dry_run:
        _would_switch(console, client.automations.plan_switch(index, name, pause=False))
        return
    client.automations.resume(index, name)
    _paused(console, client, index, name, "resumed")


@command(
    "run",
    INDEX,
    click.argument("name"),
    RUNS,
    click.option("--history", is_flag=True, help="Also what was finished before the automation began."),
    DRY_RUN,
)
def run(console: Console, index: str, name: str, run_ids: tuple[str, ...], *, history: bool, dry_run: bool) -> int:
    """Deliver now what is due: what the automation owes to its collection. History it leaves alone."""
    with console.progress() as progress:
        client = open_client(progress)
        if dry_run:
            return _planned(console, client.automations.plan_run(index, name, run_ids or None, history=history))
        outcome = client.automations.run(index, name, run_ids or None, history=history)
    _delivered(console, outcome)
    return DONE


@command(
    "backfill",
    INDEX,
    click.argument("name"),
    RUNS,
    click.option("--since", type=Time(), metavar="T", help="Only runs executed at T or later: 2026-11-01, UTC."),
    click.option("--until", type=Time(), metavar="T", help="Only runs executed before T."),
    click.option("--missing", "only", flag_value="missing", help="Only runs that the collection lacks."),
    click.option("--changed", "only", flag_value="changed", help="Only runs that it holds in another content."),
    DRY_RUN,
    click.option("--in-daemon", is_flag=True, help="Hand it to the Dagster daemon as a backfill, and follow it."),
)
def backfill(
    console: Console,
    index: str,
    name: str,
    run_ids: tuple[str, ...],
    *,
    since: datetime | None,
    until: datetime | None,
    only: Any,
    dry_run: bool,
    in_daemon: bool,
) -> int:
    """Deliver historical prompt runs. What is there already is skipped, so a stopped one is continued by the same
    command."""
    with console.progress() as progress:
        client = open_client(progress)
        chosen = {"since": since, "until": until, "only": only}
        if dry_run:
            return _planned(console, client.automations.plan_backfill(index, name, run_ids or None, **chosen))
        work = client.automations.backfill_in_daemon if in_daemon else client.automations.backfill
        outcome = work(index, name, run_ids or None, **chosen)
    _delivered(console, outcome)
    return DONE


def _delivered(console: Console, outcome: Any) -> None:
    if console.as_json:
        console.document(outcome)
    elif outcome.delivered:
        mended = (
            f"; files were put right, and no row changed, of {counted(len(outcome.mended), 'prompt run')}"
            if outcome.mended
            else ""
        )
        console.line(
            f"{one_line(outcome.index_id)}/{outcome.automation}: delivered "
            f"{counted(len(outcome.delivered), 'prompt run')} ({rows_in_words(outcome.rows_by_table)}; "
            f"{counted(outcome.files, 'file')}, {counted(outcome.bytes, 'byte')}) to {outcome.destination_uri}; "
            f"{_there(outcome.already_delivered, 'was', 'were')}{mended}"
        )
        if outcome.quarantined:
            rows = counted(outcome.quarantined, "row")
            console.line(f"{rows} of these in `quarantine`, with the reasons: what breaks its prompt's JSON Schema")
        if outcome.reshaped:
            console.line(
                f"of these, {counted(len(outcome.reshaped), 'prompt run')} had been delivered before: files got the "
                "columns that their prompt has by now, or what the configuration chooses of them"
            )
    else:
        console.line(
            f"{one_line(outcome.index_id)}/{outcome.automation}: nothing new, nothing written; "
            f"{outcome.destination_uri} holds {counted(len(outcome.already_delivered), 'prompt run')} already"
        )
    for uri in outcome.left:
        console.line(f"{one_line(uri)} is left as it is, and nobody keeps it up to date any more")
    if outcome.erased:
        erased = ", ".join(map(one_line, outcome.erased))
        console.line(f"{counted(len(outcome.erased), 'prompt run')} erased, since deleted upstream: {erased}")
    for one in outcome.not_erased:
        console.line(one)
    _tell_of_history(console, outcome)


def _tell_of_history(console: Console, outcome: Any) -> None:
    if outcome.history:
        names = f"{shlex.quote(outcome.index_id)} {outcome.automation}"
        console.line(
            f"left alone, since finished before the automation began: {counted(len(outcome.history), 'prompt run')} of "
            f"history; `vv-exports automations run {one_line(names)} --history` delivers all of it, "
            f"`vv-exports backfill` chooses"
        )


def _there(run_ids: Sequence[str], one: str, many: str) -> str:
    return f"{len(run_ids):,} {one if len(run_ids) == 1 else many} there already"


def _due(state: Mapping[str, Any]) -> str:
    """How many runs are due, and why those that are not new."""
    whys = ", ".join(f"{count} {why}" for why, count in state["due_why"].items() if why != "missing")
    return f"{state['due']} ({whys})" if whys else str(state["due"])


def _planned(console: Console, plan: Any) -> int:
    code = FAILED if plan.is_stopped else DONE
    if console.as_json:
        console.document(plan.document)
        return code
    planned(console, plan)
    if plan.erased:
        erased = ", ".join(map(one_line, plan.erased))
        console.line(f"would erase {counted(len(plan.erased), 'prompt run')}, since deleted upstream: {erased}")
        for path in plan.erased_files:
            console.line(f"  would remove {one_line(path)}")
    for one in plan.not_erased:
        console.line(one)
    for run_id, problem in plan.problems.items():
        console.note(f"Error: whether {one_line(run_id)} would be delivered is not known: {problem}")
    _tell_of_history(console, plan)
    return code


def _would_switch(console: Console, switch: Any) -> None:
    if console.as_json:
        console.document({"dry_run": True, **vars(switch)})
        return
    would = "paused" if switch.would_be_paused else "resumed"
    by = f"is paused by {switch.paused_by} ({switch.pause_reason})" if switch.is_paused else "is not paused"
    follows = "would wait" if switch.would_be_paused else "would be delivered"
    console.line(
        f"{one_line(switch.index_id)}/{switch.automation} would be {would}; it {one_line(by)} now, and "
        f"{counted(switch.due, 'prompt run')} {follows}"
    )


def _paused(console: Console, client: Any, index: str, name: str, done: str) -> None:
    state = client.automations.retrieve(index, name)
    if console.as_json:
        console.document(state)
        return
    why = f" by {state.paused_by} ({state.pause_reason})" if state.paused else ""
    console.line(
        f"{one_line(index)}/{name} is {done}{one_line(why)}; due: {counted(state.due, 'prompt run')}, delivered: "
        f"{state.delivered}"
    )


GROUP = click.Group("automations", help="Export automations.", commands=[list_, show, history, pause, resume, run])
