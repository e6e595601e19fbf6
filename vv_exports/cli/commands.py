"""What every command is made of: --json and --debug, exit codes for errors, the client, and the shapes of answers."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from vv_exports.console import Console
from vv_exports.errors import RequestError, VVExportsError

DONE, FAILED, WRONG_REQUEST = 0, 1, 2


@dataclass
class Settings:
    """What was said before the command: ``vv-exports --json runs list`` is ``vv-exports runs list --json``."""

    as_json: bool = False
    debug: bool = False


COMMON = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, nothing else."),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)


class Time(click.ParamType):  # type: ignore[type-arg]
    """ISO 8601; a time without an offset is in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            time_ = datetime.fromisoformat(value)
            return time_.astimezone(UTC) if time_.tzinfo is not None else time_.replace(tzinfo=UTC)
        except (ValueError, OverflowError):  # in UTC it may be of a year that there is not
            self.fail(f"{value!r} is no time; write it as 2026-11-01 or 2026-11-01T12:00:00+01:00", param, ctx)


INDEX = click.argument("index")
RUNS = click.option("--run", "run_ids", multiple=True, metavar="RUN", help="Only this prompt run; repeat for more.")


def command(name: str, *params: Callable[[Any], Any]) -> Callable[[Callable[..., int | None]], click.Command]:
    """A command of a function that takes a Console first, with --json, --debug and our errors as exit codes."""

    def made(function: Callable[..., int | None]) -> click.Command:
        @click.pass_obj
        def run(settings: Settings, /, *, as_json: bool, debug: bool, **arguments: Any) -> None:
            console = Console(as_json=as_json or settings.as_json)
            with console.log():
                code = _guarded(console, lambda: function(console, **arguments), debug=debug or settings.debug)
            sys.exit(code)

        decorated: Any = run
        for option in reversed((*params, *COMMON)):
            decorated = option(decorated)
        return click.command(name, help=function.__doc__)(decorated)

    return made


def open_client(progress: Any = None) -> Any:
    """Imported when a command needs it, and after the configuration was found to be sound: Dagster takes a second to
    import, `--help` and mistakes should not."""
    loaded = read_config()

    from vv_exports.client import VVExports

    client = VVExports(loaded, progress=progress)
    click.get_current_context().find_root().call_on_close(client.close)
    return client


def read_config() -> Any:
    """The configuration; with what components of a Dagster project say, where it names one."""
    from vv_exports.config import dagster_project, load_config

    if dagster_project() is None:
        return load_config()

    from vv_exports.client import load_with_components

    return load_with_components()


def listing(console: Console, rows: list[dict[str, Any]], names: tuple[str, ...] | None = None, *, empty: str) -> None:
    """Print things of one kind: a table of these fields of each, or with --json all of them."""
    if console.as_json:
        console.document(rows)
    else:
        console.table([{name: row[name] for name in names} if names else row for row in rows], empty=empty)


def record(console: Console, fields: dict[str, Any]) -> None:
    """Print one thing with all its fields."""
    if console.as_json:
        console.document(fields)
    else:
        console.record(fields)


def _guarded(console: Console, work: Callable[[], int | None], *, debug: bool) -> int:
    caught: BaseException
    try:
        return work() or DONE
    except (VVExportsError, TimeoutError) as error:
        caught, message = error, str(error)
        code, kind = (WRONG_REQUEST if isinstance(error, RequestError) else FAILED), type(error).__name__
    except KeyboardInterrupt as interrupt:
        caught = interrupt
        code, kind, message = (
            FAILED,
            "Interrupted",
            "interrupted; the same command again completes what it began",
        )
    except Exception as error:  # noqa: BLE001 - the last line of defence: a readable message, and --debug for the rest
        caught, code, kind = error, FAILED, type(error).__name__
        message = f"unexpected {kind}: {error} (run it again with --debug to see where)"
    if debug:
        traceback.print_exception(caught)
    console.note(f"Error: {message}")
    if console.as_json:
        console.document({"error": {"type": kind, "message": message}})
    return code
