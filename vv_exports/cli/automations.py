"""Export automations: their state, pausing and resuming, and what they deliver when asked."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from vv_exports.cli import changes
from vv_exports.cli.commands import DONE, FAILED, INDEX, RUNS, Time, command, listing, open_client, record
from vv_exports.cli.content import AUTOMATION_CONTENT, chosen_fields
from vv_exports.cli.plans import planned
from vv_exports.cli.rows import rows_in_words
from vv_exports.console import Console
from vv_exports.errors import RequestError
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
        "trigger",
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
    click.argument("index", required=False),
    click.argument("name", required=False),
    click.option("--all", "every", is_flag=True, help="All automations, one after the other; or name an INDEX alone."),
    RUNS,
    click.option("--history", is_flag=True, help="Also what was finished before the automation began."),
    DRY_RUN,
)
def run(
    console: Console,
    index: str | None,
    name: str | None,
    *,
    every: bool,
    run_ids: tuple[str, ...],
    history: bool,
    dry_run: bool,
) -> int:
    """Deliver now what is due: what the automation owes to its collection. History it leaves alone.

    Of an INDEX alone, or with --all, those wait that are paused, disabled or `manual`. That is for a crontab."""
    if every == (index is not None):
        raise RequestError("name an INDEX and an automation, an INDEX for all of its automations, or --all")
    if name is None or index is None:
        if run_ids:
            raise RequestError("--run is of one automation; name it")
        return _run_all(console, index, history=history, dry_run=dry_run)
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


def _run_all(console: Console, index: str | None, *, history: bool, dry_run: bool) -> int:
    code, documents = DONE, []
    with console.progress() as progress:
        client = open_client(progress)
        turns = client.automations.plan_all if dry_run else client.automations.run_all
        for turn in turns(index, history=history):
            documents.append(_turn_document(turn))
            if turn.error is not None or (dry_run and turn.done is not None and turn.done.is_stopped):
                code = FAILED
            if not console.as_json:
                _turn(console, turn)
    if console.as_json:
        console.document(documents)
    return code


def _turn(console: Console, turn: Any) -> None:
    name = f"{one_line(turn.index_id)}/{turn.automation}"
    if turn.waits is not None:
        console.line(f"{name} is left alone: {turn.waits}")
    elif turn.error is not None:
        console.note(f"Error: {name}: {turn.error}")
    elif hasattr(turn.done, "is_stopped"):
        _planned(console, turn.done)
    else:
        _delivered(console, turn.done)


def _turn_document(turn: Any) -> dict[str, Any]:
    done = turn.done.document if hasattr(turn.done, "document") else vars(turn.done) if turn.done else {}
    named = {"index_id": turn.index_id, "automation": turn.automation}
    return {**named, "waits": turn.waits, "error": None if turn.error is None else str(turn.error), **done}


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


@command(
    "set",
    INDEX,
    click.argument("name"),
    click.option("--connector", "destination_connector_id", metavar="ID", help="The connector to deliver to."),
    click.option(
        "--subpath", "destination_subpath", metavar="P", help="Its folder there. Of a new one by default the index id."
    ),
    click.option("--enabled/--disabled", default=None, help="Whether it may deliver at all."),
    click.option("--paused/--no-paused", default=None, help="Whether it waits until the configuration says otherwise."),
    *AUTOMATION_CONTENT,
    click.option("--delta/--no-delta", default=None, help="Whether each table of each prompt is a Delta table, too."),
    click.option(
        "--on-status", multiple=True, metavar="S", help="Only runs of this status: completed, completed_with_failures."
    ),
    click.option(
        "--partial", metavar="P", help="deliver or hold: what to do with a run that is completed_with_failures."
    ),
    click.option("--schedule", "cron", metavar="CRON", help="When the collection is put right: '0 3 * * *'."),
    click.option("--timezone", metavar="TZ", help="The time zone that the schedule is in, such as Europe/Berlin."),
    click.option(
        "--trigger",
        metavar="T",
        help="When it delivers by itself: as soon as a run is finished, by its schedule alone, or never (manual).",
    ),
    click.option(
        "--start", metavar="S", help="now or beginning: whether what is finished before it begins is history."
    ),
    click.option("--max-runs-per-delivery", type=int, metavar="N", help="Prompt runs of one commit."),
    click.option("--pause-after-failures", type=int, metavar="N", help="Permanent failures until it pauses itself."),
    click.option("--retain-superseded", metavar="T", help="How long superseded files are kept, such as 24h."),
    click.option("--expect-every", metavar="T", help="How often a delivery is expected, such as 24h."),
    click.option(
        "--dataset-card/--no-dataset-card", default=None, help="Whether a dataset card is kept beside the tables."
    ),
    click.option("--owner", "owners", multiple=True, metavar="O", help="Who answers for it, as Dagster shows; repeat."),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of its asset in Dagster; repeat."),
    changes.RUN_TAG,
    click.option(
        "--on-upstream-delete", metavar="C", help="keep or erase: what becomes of a run that is deleted at the source."
    ),
    changes.default_option("destination_subpath, format, tables, schedule, …"),
    changes.DRY_RUN,
)
def set_(
    console: Console,
    index: str,
    name: str,
    *,
    cron: str | None,
    timezone: str | None,
    tags: tuple[str, ...],
    delta: bool | None,
    run_tags: tuple[str, ...],
    dry_run: bool,
    **options: Any,
) -> None:
    """Create an automation in the configuration's file, or change what is named of one. Comments and order stay."""
    defaults = options.pop("defaults")
    said = {"tags": changes.pairs("--tag", tags), "run_tags": changes.pairs("--run-tag", run_tags)}
    fields = changes.fields_of({**chosen_fields(**options), **said}, defaults)
    client = open_client()
    if cron is not None or timezone is not None:
        fields["schedule"] = _schedule(client, index, name, cron, timezone)
    if delta is not None or fields.get("tables"):
        fields["tables"] = _tables(client, index, name, fields.get("tables"), delta)
    changes.told(console, client.automations.set(index, name, dry_run=dry_run, **fields))


@command("remove", INDEX, click.argument("name"), changes.DRY_RUN)
def remove(console: Console, index: str, name: str, *, dry_run: bool) -> None:
    """Take an automation out of the configuration's file. What it delivered stays where it is."""
    changes.told(console, open_client().automations.remove(index, name, dry_run=dry_run))


def _schedule(client: Any, index: str, name: str, cron: str | None, timezone: str | None) -> dict[str, str]:
    """A schedule of which one half may be as it was."""
    schedule = client.automations.schedule(index, name) or {}
    given = {"cron": cron, "timezone": timezone}
    return {**schedule, **{field: value for field, value in given.items() if value is not None}}


def _tables(client: Any, index: str, name: str, include: Sequence[str] | None, delta: bool | None) -> Any:
    """Tables of which the names, or the formats, may be as they were."""
    given = {"include": include, "delta": delta}
    tables = {**client.automations.tables(index, name), **{key: one for key, one in given.items() if one is not None}}
    if not tables.get("delta") and "iceberg" not in tables:
        return tables.get("include")
    return {key: list(one) if key == "include" else one for key, one in tables.items() if one is not False}


GROUP = click.Group(
    "automations", help="Export automations.", commands=[list_, show, history, set_, remove, pause, resume, run]
)
