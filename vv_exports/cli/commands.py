"""What every command is made of: --json and --debug, exit codes for errors, the client, and the shapes of answers."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from vv_exports.console import Console
from vv_exports.errors import ConfigurationError, RequestError, VVExportsError

_ITEM = "  - "
_AS_JSON = "vv_exports.as_json"
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


class _Command(click.Command):
    """One that names all arguments that were forgotten, not the first alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = [*args]
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            typed, _, _ = self.make_parser(ctx).parse_args(given)
            missing = [
                one.get_error_hint(ctx)
                for one in self.params
                if one.required and (one.name not in typed or one.value_is_missing(typed[one.name]))
            ]
            if len(missing) < 2:  # noqa: PLR2004
                raise
            raise _MissingError(missing, ctx) from error


class _MissingError(click.UsageError):
    """Several things that a command needs were left out."""

    def __init__(self, missing: Sequence[str], ctx: click.Context) -> None:
        self.problems = tuple(f"Missing {one}." for one in missing)
        super().__init__(f"Missing: {', '.join(missing)}.", ctx)


class Commands(click.Group):
    """All of them. With --json, a mistyped command is told on stdout, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if ctx.meta[_AS_JSON]:
                Console(as_json=True).document(_as_document("UsageError", error.format_message(), error))
            raise


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
        return click.command(name, cls=_Command, help=function.__doc__)(decorated)

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
        loaded = load_config()
        if not loaded.index_templates:
            return loaded

    # Which indexes there are is not in the file alone.

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
        console.document(_as_document(kind, message, caught))
    return code


def _as_document(kind: str, message: str, error: BaseException) -> dict[str, Any]:
    """An error; its problems one by one, where it has several."""
    problems = error.problems if isinstance(error, ConfigurationError | _MissingError) else ()
    listed = [line.removeprefix(_ITEM) for line in message.splitlines() if line.startswith(_ITEM)]
    return {"error": {"type": kind, "message": message, "problems": [*problems] or listed or [message]}}
