"""The command line. It parses, calls the client, prints; whatever it does can be done from Python too.

Exit codes: 0 done, 1 the work failed, 2 the request or the configuration is wrong.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import click

from vv_exports import __version__
from vv_exports.console import Console
from vv_exports.errors import ForbiddenError, RequestError, VVExportsError
from vv_exports.printable import one_line

_DONE, _FAILED, _WRONG_REQUEST = 0, 1, 2
_PURPOSES = {
    "deliver": "delivering needs",
    "verify": "`vv-exports verify` and readers need",
    "retention": "`vv-exports vacuum` needs, and deliveries that remove what they supersede",
}
_MARKS = {"ok": "ok     ", "warning": "WARNING", "failed": "FAILED "}


@dataclass
class _Settings:
    as_json: bool = False
    debug: bool = False


Command = Callable[..., int | None]


def _command(group: click.Group, name: str, *params: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Register a command that takes a Console first, with --json, --debug and our errors as exit codes."""

    def register(function: Command) -> Command:
        @click.pass_obj
        def run(settings: _Settings, /, *, as_json: bool, debug: bool, **arguments: Any) -> None:
            console = Console(as_json=as_json or settings.as_json)
            with console.log():
                code = _guarded(console, lambda: function(console, **arguments), debug=debug or settings.debug)
            sys.exit(code)

        decorated: Any = run
        for option in reversed((*params, *_COMMON)):
            decorated = option(decorated)
        group.command(name, help=function.__doc__)(decorated)
        return function

    return register


_COMMON = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, nothing else."),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)


def _guarded(console: Console, work: Callable[[], int | None], *, debug: bool) -> int:
    caught: BaseException
    try:
        return work() or _DONE
    except (VVExportsError, TimeoutError) as error:
        caught, message = error, str(error)
        code, kind = (_WRONG_REQUEST if isinstance(error, RequestError) else _FAILED), type(error).__name__
    except KeyboardInterrupt as interrupt:
        caught = interrupt
        code, kind, message = (
            _FAILED,
            "Interrupted",
            "interrupted; the same command again completes what it began",
        )
    except Exception as error:  # noqa: BLE001 - the last line of defence: a readable message, and --debug for the rest
        caught, code, kind = error, _FAILED, type(error).__name__
        message = f"unexpected {kind}: {error} (run it again with --debug to see where)"
    if debug:
        traceback.print_exception(caught)
    console.note(f"Error: {message}")
    if console.as_json:
        console.document({"error": {"type": kind, "message": message}})
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vv-exports")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, nothing else.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(context: click.Context, as_json: bool, debug: bool) -> None:
    """Deliver VideoVector prompt runs: complete, typed, in the right folder."""
    context.obj = _Settings(as_json, debug)


@main.group()
def config() -> None:
    """The configuration."""


@main.group()
def source() -> None:
    """The source of prompt runs."""


@main.group()
def runs() -> None:
    """Prompt runs of an index."""


@main.group()
def export() -> None:
    """Export on demand, to a connector or as a download."""


@main.group()
def exports() -> None:
    """Exports that were made on demand."""


@main.group()
def automations() -> None:
    """Export automations."""


@main.group()
def connectors() -> None:
    """Connectors."""


class _Time(click.ParamType):  # type: ignore[type-arg]
    """ISO 8601; a time without an offset is in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            time_ = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write it as 2026-11-01 or 2026-11-01T12:00:00+01:00", param, ctx)
        return time_ if time_.tzinfo is not None else time_.replace(tzinfo=UTC)


_INDEX = click.argument("index")
_RUNS = click.option("--run", "run_ids", multiple=True, metavar="RUN", help="Only this prompt run; repeat for more.")
_DESTINATION = (
    click.option(
        "--connector",
        "connector_id",
        metavar="ID",
        help="Deliver to this connector; without it, make a download.",
    ),
    click.option("--subpath", metavar="P", help="Folder below the connector's export_base_path."),
    click.option(
        "--format",
        "format_name",
        metavar="F",
        default="parquet",
        show_default=True,
        help="parquet, jsonl, csv or json.",
    ),
    click.option("--idempotency-key", metavar="KEY", help="The same key and request give the earlier export."),
    click.option(
        "--to",
        metavar="PATH",
        help="Copy the download here as well: a file, or a folder with a trailing slash.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be exported; write nothing."),
)


@_command(main, "demo")
def demo(console: Console) -> None:
    """Create the demo archive and vv_exports.yaml here."""
    from vv_exports.demo import write_demo

    summary = write_demo(Path.cwd())
    if console.as_json:
        console.document(summary)
    console.line(str(summary))


@_command(config, "check")
def config_check(console: Console) -> None:
    """Read the configuration and report every problem in it."""
    from vv_exports.config import config_place, load_config
    from vv_exports.pipeline import Pipeline

    loaded = load_config()
    Pipeline.from_config(loaded)  # a provider whose packages are not installed is a problem too
    automations_count = sum(len(index.automations) for index in loaded.indexes.values())
    if console.as_json:
        console.document({"ok": True, "file": config_place(), "warnings": []})
    console.line(
        f"{config_place()} is fine. Indexes: {len(loaded.indexes)}, automations: {automations_count}, "
        f"connectors: {len(loaded.connectors)}."
    )


@_command(config, "schema")
def config_schema(console: Console) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from vv_exports.config import config_schema as schema

    console.document(schema())


@_command(source, "check")
def source_check(console: Console) -> int:
    """Try credentials, scopes and the configured indexes at the source, reading only."""
    code, findings = _checked(console, _client().pipeline.check_source())
    if console.as_json:
        console.document(_steps(findings))
    return code


@_command(runs, "sync", _INDEX)
def runs_sync(console: Console, index: str) -> None:
    """Discover runs, take snapshots of new and changed ones."""
    with console.progress() as progress:
        sync = _client(progress).prompt_runs.sync(index)
    if console.as_json:
        console.document(sync)
    console.line(
        f"{one_line(index)}: {sync.finished} finished of {sync.prompt_runs} prompt runs; "
        f"{len(sync.new_partitions)} new, {len(sync.snapshots_taken)} snapshots taken."
    )


@_command(runs, "list", _INDEX)
def runs_list(console: Console, index: str) -> int:
    """List the prompt runs of an index. Exits with 1 where the record of one cannot be read."""
    rows = []
    for listed in _client().prompt_runs.list(index):
        run, snapshot = listed.run, listed.snapshot
        rows.append(
            {
                "run_id": listed.run_id,
                "status": str(run.status) if run else None,
                "prompt_id": run.prompt_id if run else None,
                "prompt_name": run.prompt_name if run else None,
                "executed_at": run.executed_at.isoformat().replace("+00:00", "Z") if run else None,
                "total_segments": run.count("total_segments") if run else None,
                "snapshot_revision": snapshot.revision if snapshot else None,
                "snapshot_segments": snapshot.rows("segments") if snapshot else None,
                "problem": listed.problem,
            }
        )
    broken = any(row["problem"] for row in rows)
    names = tuple(name for name in rows[0] if broken or name != "problem") if rows else None
    _listing(console, rows, names, empty=f"index {one_line(index)} has no prompt runs")
    return _FAILED if broken else _DONE


@_command(export, "index", _INDEX, _RUNS, *_DESTINATION)
def export_index(console: Console, index: str, run_ids: tuple[str, ...], **options: Any) -> int:
    """Export an index: all finished prompt runs, or those named with --run."""
    return _export(console, "index", index, run_ids or None, **options)


@_command(export, "run", _INDEX, click.argument("run"), *_DESTINATION)
def export_run(console: Console, index: str, run: str, **options: Any) -> int:
    """Export one prompt run."""
    return _export(console, "prompt_run", index, (run,), **options)


@_command(exports, "list")
def exports_list(console: Console) -> None:
    """List exports, newest first."""
    found = [one.to_json() for one in _client().exports.list()]
    names = ("export_id", "export_type", "target_id", "status", "destination_uri", "rows", "files", "bytes")
    _listing(console, found, names, empty="no exports were made in this Dagster instance")


@_command(exports, "show", click.argument("export_id"))
def exports_show(console: Console, export_id: str) -> None:
    """Show one export."""
    _record(console, _client().exports.retrieve(export_id).to_json())


@_command(
    exports,
    "download",
    click.argument("export_id"),
    click.option("--to", metavar="PATH", help="File or folder; default: here."),
)
def exports_download(console: Console, export_id: str, to: str | None) -> None:
    """Copy the artifact of a download export to a file."""
    download = _client().exports.download(export_id, to)
    if console.as_json:
        console.document(download)
    _downloaded(console, download)


@_command(automations, "list")
def automations_list(console: Console) -> None:
    """List automations: paused or not and by whom, what is delivered, what waits, the last error."""
    found = [vars(one) for one in _client().automations.list()]
    names = (
        "index_id",
        "automation",
        "enabled",
        "paused",
        "paused_by",
        "destination_uri",
        "delivered",
        "waiting",
        "failing",
        "held",
        "last_delivery_at",
        "last_error",
    )
    _listing(console, found, names, empty="no automations are configured")


@_command(automations, "show", _INDEX, click.argument("name"))
def automations_show(console: Console, index: str, name: str) -> None:
    """Show one automation."""
    _record(console, vars(_client().automations.retrieve(index, name)))


@_command(
    automations,
    "pause",
    _INDEX,
    click.argument("name"),
    click.option("--reason", default="", metavar="TEXT", help="Why; the list and the UI show it."),
)
def automations_pause(console: Console, index: str, name: str, reason: str) -> None:
    """Let an automation wait. It keeps its place, and delivers what finished meanwhile when it is resumed."""
    client = _client()
    client.automations.pause(index, name, reason)
    _paused(console, client, index, name, "paused")


@_command(automations, "resume", _INDEX, click.argument("name"))
def automations_resume(console: Console, index: str, name: str) -> None:
    """Let a paused automation go on."""
    client = _client()
    client.automations.resume(index, name)
    _paused(console, client, index, name, "resumed")


@_command(automations, "run", _INDEX, click.argument("name"), _RUNS)
def automations_run(console: Console, index: str, name: str, run_ids: tuple[str, ...]) -> None:
    """Deliver now what the automation's collection lacks."""
    with console.progress() as progress:
        outcome = _client(progress).automations.run(index, name, run_ids or None)
    _delivered(console, outcome)


@_command(
    main,
    "backfill",
    _INDEX,
    click.argument("name"),
    _RUNS,
    click.option("--since", type=_Time(), metavar="T", help="Only runs executed at T or later: 2026-11-01, UTC."),
    click.option("--until", type=_Time(), metavar="T", help="Only runs executed before T."),
    click.option("--missing", "only", flag_value="missing", help="Only runs that the collection lacks."),
    click.option("--changed", "only", flag_value="changed", help="Only runs that it holds in another content."),
    click.option("--dry-run", is_flag=True, help="Say what would be delivered; write nothing."),
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
        client = _client(progress)
        chosen = {"since": since, "until": until, "only": only}
        if dry_run:
            return _planned(console, client.automations.plan_backfill(index, name, run_ids or None, **chosen))
        work = client.automations.backfill_in_daemon if in_daemon else client.automations.backfill
        outcome = work(index, name, run_ids or None, **chosen)
    _delivered(console, outcome)
    return _DONE


@_command(
    runs,
    "prune",
    _INDEX,
    click.option("--dry-run", is_flag=True, help="Say what would be forgotten; write nothing."),
)
def runs_prune(console: Console, index: str, dry_run: bool) -> None:
    """Forget prompt runs that are gone from the source: their partitions and snapshots. Deliveries stay."""
    pruned = _client().prompt_runs.prune(index, dry_run=dry_run)
    if console.as_json:
        console.document(pruned)
    verb = "would forget" if dry_run else "forgot"
    listed = "".join(f"\n  {one_line(run_id)}" for run_id in pruned.prompt_runs)
    console.line(
        f"{verb} {len(pruned.prompt_runs)} prompt runs of {one_line(index)} that are gone from the source, and "
        f"{pruned.files} files of the pipeline's own; what was delivered stays{listed}"
    )


@_command(
    connectors,
    "list",
    click.option("--upstream", is_flag=True, help="Those that are registered at VideoVector, instead."),
)
def connectors_list(console: Console, upstream: bool) -> None:
    """List connectors."""
    pipeline = _client().pipeline
    if upstream:
        names = ("connector_id", "name", "provider", "status", "scopes", "export_base_path", "bucket", "container")
        _listing(console, pipeline.upstream_connectors(), names, empty="no connectors are registered at VideoVector")
        return
    rows = [
        {
            "connector_id": key,
            "provider": one.provider,
            "scopes": sorted(one.scopes),
            "export_base_path": pipeline.config.connectors[key].export_base_path,
            "uri": one.uri(""),
        }
        for key, one in pipeline.connectors.items()
    ]
    _listing(console, rows, empty="no connectors are configured")


@_command(connectors, "test", click.argument("connector_id", metavar="ID"))
def connectors_test(console: Console, connector_id: str) -> int:
    """Try what deliveries need of a connector, step by step, and print the least-privilege policies."""
    pipeline = _client().pipeline
    code, findings = _checked(console, pipeline.check_connector(connector_id))
    connector = pipeline.connector(connector_id)
    policies = connector.policies()
    if console.as_json:
        console.document(
            {
                "connector_id": connector_id,
                "provider": connector.provider,
                "uri": connector.uri(""),
                "ok": code == _DONE,
                "steps": _steps(findings),
                "policies": policies,
            }
        )
    failed = next((finding for finding in findings if finding.outcome == "failed"), None)
    if failed is None or isinstance(failed.error, ForbiddenError):
        for purpose, policy in policies.items():
            console.line(f"\nThe least that {_PURPOSES[purpose]}:\n{json.dumps(policy, indent=2)}")
    if failed is not None:
        console.line(
            f"\nConnector {one_line(connector_id)} cannot be used yet: the step {failed.step!r} failed, see above."
        )
    return code


@_command(
    connectors,
    "browse",
    click.argument("connector_id", metavar="ID"),
    click.option("--prefix", default="", metavar="P", help="Only what is below this folder."),
)
def connectors_browse(console: Console, connector_id: str, prefix: str) -> None:
    """List the files of a connector."""
    files = _client().pipeline.connector(connector_id).files(prefix.strip("/"))
    rows = [{"path": file.key, "name": PurePosixPath(file.key).name, "size_bytes": file.size} for file in files]
    _listing(console, rows, empty=f"no files below {prefix!r}")


@_command(
    main,
    "verify",
    click.argument("connector_id", metavar="ID"),
    click.option("--subpath", metavar="P", help="Only this destination; without it, all of the connector's."),
)
def verify(console: Console, connector_id: str, subpath: str | None) -> int:
    """Re-read every committed file at a destination, compare it with the delivery log, and name what readers take
    beside it."""
    from vv_exports.delivery.destination import Destination
    from vv_exports.delivery.verify import destinations
    from vv_exports.delivery.verify import verify as verify_destination
    from vv_exports.domain.destinations import check_subpath

    connector = _client().pipeline.connector(connector_id)
    subpaths = destinations(connector) if subpath is None else [check_subpath(subpath, boundary=connector.uri(""))]
    found = [verify_destination(Destination(connector, one)) for one in subpaths]
    if console.as_json:
        console.document(found)
    for one in found:
        verdict = "fine" if not one.problems else f"{len(one.problems)} problems"
        console.line(f"{one.uri}: {verdict} ({one.prompt_runs} prompt runs, {one.files} files, {one.bytes:,} bytes)")
        for problem in one.problems:
            console.line(f"  {one_line(problem)}")
        if one.left is not None:
            console.line(f"  note: {one_line(str(one.left))}; nobody keeps it up to date")
        if one.foreign:
            console.line(
                f"  {len(one.foreign)} files are not the pipeline's, and stay: {', '.join(map(one_line, one.foreign))}"
            )
        for advice in one.advice:
            console.line(f"  {one_line(advice)}")
    if not found:
        console.line(f"nothing was delivered to connector {one_line(connector_id)} yet")
    return _FAILED if any(one.problems for one in found) else _DONE


@_command(
    main,
    "vacuum",
    click.argument("connector_id", metavar="ID"),
    click.option("--subpath", required=True, metavar="P", help="The destination: a folder that an export owns."),
    click.option("--dry-run", is_flag=True, help="Say what would be removed; write nothing."),
    click.option("--without-log", is_flag=True, help="Also where nothing was ever committed: all data files go."),
)
def vacuum(console: Console, connector_id: str, subpath: str, *, dry_run: bool, without_log: bool) -> None:
    """Remove what was superseded or left over at a destination, and nothing else."""
    done = _client().pipeline.vacuum(connector_id, subpath, dry_run=dry_run, without_log=without_log)
    if console.as_json:
        console.document(done)
    verb = "would remove" if dry_run else "removed"
    kept = f"; {len(done.left_alone)} that are not the pipeline's stay" if done.left_alone else ""
    console.line(
        f"{done.uri}: {verb} {len(done.superseded)} superseded and {len(done.strays)} stray files "
        f"({done.bytes:,} bytes) and {len(done.uploads)} unfinished uploads{kept}"
    )
    for path in (*done.superseded, *done.strays, *done.checkpoints, *done.uploads):
        console.line(f"  {one_line(path)}")
    for path in done.left_alone:
        console.line(f"  stays: {one_line(path)}")


def _checked(console: Console, check: Iterable[Any]) -> tuple[int, list[Any]]:
    """Tell a check's findings as they come. Returns the exit code, and the findings."""
    findings = []
    for finding in check:
        findings.append(finding)
        console.line(f"{_MARKS[finding.outcome]} {finding.step}: {finding.detail}")
    errors = [one.error for one in findings if one.error is not None]
    if any(isinstance(error, RequestError) for error in errors):
        return _WRONG_REQUEST, findings
    return _FAILED if errors else _DONE, findings


def _steps(findings: list[Any]) -> list[dict[str, str]]:
    return [{"step": one.step, "outcome": one.outcome, "detail": one.detail} for one in findings]


def _export(
    console: Console,
    export_type: Any,
    index: str,
    run_ids: tuple[str, ...] | None,
    *,
    connector_id: str | None,
    subpath: str | None,
    format_name: str,
    idempotency_key: str | None,
    to: str | None,
    dry_run: bool,
) -> int:
    from vv_exports.domain.exports import ExportRequest, ExportStatus

    request = ExportRequest(export_type, index, run_ids, connector_id, subpath, format_name)
    if to is not None and connector_id is not None:
        raise RequestError(
            "--to copies a download; an export to a connector makes none. Leave out --to or --connector."
        )
    if dry_run:
        return _dry_run(console, request)
    with console.progress() as progress:
        client = _client(progress)
        started = time.time()
        made = client.exports.create(request, idempotency_key=idempotency_key)
    completed = made.status == ExportStatus.COMPLETED
    # Before the document is printed: an error prints one of its own.
    download = client.exports.download(made.export_id, to) if completed and to is not None else None
    if console.as_json:
        console.document(made.to_json())
    if not completed:
        console.note(f"Error: export {made.export_id} failed: {made.error_message}")
        return _FAILED
    earlier = " (made earlier; nothing written)" if made.created_before(started) else ""
    console.line(
        f"{made.export_id}: {made.rows:,} rows, {made.files} files, {made.bytes:,} bytes "
        f"in {made.destination_uri}{earlier}"
    )
    if download is not None:
        _downloaded(console, download)
    elif made.destination_type == "download":
        console.line(f"get it with: vv-exports exports download {made.export_id}")
    return _DONE


def _delivered(console: Console, outcome: Any) -> None:
    if console.as_json:
        console.document(outcome)
    elif outcome.delivered:
        mended = (
            f"; of those delivered, {len(outcome.mended)} had files put right, and no row changed"
            if outcome.mended
            else ""
        )
        console.line(
            f"{one_line(outcome.index_id)}/{outcome.automation}: delivered {len(outcome.delivered)} prompt runs "
            f"({outcome.rows:,} rows, {outcome.files} files, {outcome.bytes:,} bytes) to {outcome.destination_uri}; "
            f"{len(outcome.already_delivered)} were there already{mended}"
        )
        for uri in outcome.left:
            console.line(f"  {one_line(uri)} is left as it is, and nobody keeps it up to date any more")
    else:
        console.line(
            f"{one_line(outcome.index_id)}/{outcome.automation}: nothing new, nothing written; "
            f"{outcome.destination_uri} holds all {len(outcome.already_delivered)} prompt runs already"
        )


def _planned(console: Console, plan: Any) -> int:
    code = _FAILED if plan.problems else _DONE
    if console.as_json:
        console.document({"dry_run": True, **vars(plan), "rows": plan.rows, "bytes": plan.bytes})
        return code
    unread = sum(run.bytes is None for run in plan.prompt_runs)
    still = f"; {unread} are not read yet, so their bytes are unknown" if unread else ""
    console.line(
        f"would deliver {len(plan.prompt_runs)} prompt runs ({plan.rows:,} rows, {plan.bytes:,} bytes{still}) to "
        f"{plan.destination_uri}; {len(plan.already_delivered)} are there already"
    )
    console.table([vars(run) for run in plan.prompt_runs], empty="")
    for run_id, problem in plan.problems.items():
        console.note(f"Error: whether {one_line(run_id)} would be delivered is not known: {problem}")
    return code


def _paused(console: Console, client: Any, index: str, name: str, done: str) -> None:
    state = client.automations.retrieve(index, name)
    if console.as_json:
        console.document(state)
        return
    why = f" by {state.paused_by} ({state.pause_reason})" if state.paused else ""
    console.line(
        f"{one_line(index)}/{name} is {done}{one_line(why)}; {state.waiting} prompt runs wait, {state.delivered} are "
        "delivered"
    )


def _downloaded(console: Console, download: Any) -> None:
    console.line(
        f"{download.path} ({download.bytes:,} bytes)"
        + ("" if download.written else " was there already; nothing written")
    )


def _dry_run(console: Console, request: Any) -> int:
    client = _client()
    chosen = client.exports.check(request)
    where = (
        "a download"
        if request.destination_connector_id is None
        else client.pipeline.connectors[request.destination_connector_id].uri(request.destination_subpath or "")
    )
    rows = [
        {"run_id": run.run_id, "status": str(run.status), "total_segments": run.count("total_segments")}
        for run in chosen
    ]
    if console.as_json:
        console.document(
            {
                "dry_run": True,
                "export_type": request.export_type,
                "target_id": request.target_id,
                "format": request.format,
                "destination": where,
                "prompt_runs": rows,
            }
        )
    console.line(f"would export {len(rows)} prompt runs as {request.format} to {where}:")
    if not console.as_json:
        console.table(rows, empty="")
    return _DONE


def _client(progress: Any = None) -> Any:
    """Imported when a command needs it, and after the configuration was found to be sound: Dagster takes a second to
    import, `--help` and mistakes should not."""
    from vv_exports.config import load_config

    loaded = load_config()

    from vv_exports.client import VVExports

    client = VVExports(loaded, progress=progress)
    click.get_current_context().find_root().call_on_close(client.close)
    return client


def _listing(console: Console, rows: list[dict[str, Any]], names: tuple[str, ...] | None = None, *, empty: str) -> None:
    if console.as_json:
        console.document(rows)
    else:
        console.table([{name: row[name] for name in names} if names else row for row in rows], empty=empty)


def _record(console: Console, record: dict[str, Any]) -> None:
    if console.as_json:
        console.document(record)
    else:
        console.record(record)
