"""How the command line speaks: results on stdout, progress and errors on stderr.

Ids and messages are data: no markup, no emoji codes, and nothing that would steer the terminal.
"""

import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import msgspec
from rich.console import Console as Terminal
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from vv_exports.domain.progress import Progress, Step
from vv_exports.printable import counted, one_line, printable

_UNITS: dict[Step, str] = {"reading": "segments", "encoding": "rows", "uploading": "bytes", "verifying": "bytes"}


class Console:
    """Output of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = _terminal(stderr=False)
        self._err = _terminal(stderr=True)
        self._step: Callable[[str], None] = _silent

    def document(self, value: Any) -> None:
        """The one JSON document of a ``--json`` command."""
        text = json.dumps(_plain(value), ensure_ascii=False, indent=2, default=str)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(_plain(value), indent=2, default=str)
        _say(self._out, text)

    def line(self, text: str) -> None:
        """A line for people; nothing with ``--json``."""
        if not self.as_json:
            _say(self._out, printable(text))

    def note(self, text: str) -> None:
        """A line on stderr."""
        _say(self._err, printable(text))

    def record(self, record: dict[str, Any]) -> None:
        """One thing for people: a line for each of its fields, and below that those of a mapping."""
        for line in _lines(record):
            self.line(line)

    def table(self, rows: Sequence[dict[str, Any]], *, empty: str) -> None:
        """Rows for people: a table on a terminal, tab-separated lines in a pipe."""
        if self.as_json or not rows:
            if empty:
                self.line(empty)
            return
        if not self._out.is_terminal:
            self.line("\t".join(rows[0]))
            for row in rows:
                self.line("\t".join(_cell(value) for value in row.values()))
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in rows[0]:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row.values()))
        self._out.print(table)

    @contextmanager
    def log(self) -> Iterator[None]:
        """Show what the package logs: warnings as notes, steps of long work as its progress."""
        handler = _Log(
            lambda text: self.note(f"Warning: {one_line(text)}"),
            lambda text: self._step(text),  # noqa: PLW0108 - it changes when progress begins
        )
        logger = logging.getLogger("vv_exports")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Progress of long work: moving bars on a terminal, one line for each step where there is none."""
        if not self._err.is_terminal:
            self._step = lambda text: self.note(one_line(text))
            yield Progress(
                snapshot=lambda run_id, rows: self.note(f"snapshot of {one_line(run_id)}: {counted(rows, 'segment')}"),
                file=lambda what, rows: self.note(f"uploaded {one_line(what)}: {counted(rows, 'row')}"),
            )
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            _Amount(),
            TimeRemainingColumn(compact=True),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self._err, transient=True) as bars:
            steps = _Steps(bars)
            self._step = steps.say
            yield Progress(
                snapshot=lambda run_id, _: steps.say(f"snapshot of {run_id}"),
                file=lambda what, _: steps.say(f"uploaded {what}"),
                work=steps.work,
            )


class _Steps:
    """The lines of moving bars: what is done just now, and a bar for each step that has begun."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._now = bars.add_task("starting", total=None)
        self._of: dict[Step, TaskID] = {}
        self._guard = threading.Lock()

    def say(self, text: str) -> None:
        self._bars.update(self._now, description=_cell(text))

    def work(self, step: Step, done: int, more: int) -> None:
        with self._guard:  # tasks are told from several threads
            if step not in self._of:
                self._of[step] = self._bars.add_task(step, total=0, unit=_UNITS[step])
            known = next(task for task in self._bars.tasks if task.id == self._of[step])
            # What was to be done may have been an estimate: nobody is told that more was done than there is.
            total = max((known.total or 0) + more, known.completed + done)
            self._bars.update(self._of[step], advance=done, total=total)


class _Amount(ProgressColumn):
    """``12,000 of 80,000 segments, 5,300/s``; of bytes in their greatest unit."""

    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit")
        if unit is None:
            return Text("")
        done, total, speed = (_amount(number, unit) for number in (task.completed, task.total or 0, task.speed or 0))
        told = f"{done} of {total}" if unit == "bytes" else f"{done} of {total} {unit}"
        return Text(f"{told}, {speed}/s" if task.speed else told)


def _amount(number: float, unit: str) -> str:
    return decimal(int(number)) if unit == "bytes" else f"{int(number):,}"


class _Log(logging.Handler):
    """Hands what is logged on, by how much it matters."""

    def __init__(self, warning: Callable[[str], None], step: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._warning = warning
        self._step = step

    def emit(self, record: logging.LogRecord) -> None:
        (self._warning if record.levelno >= logging.WARNING else self._step)(record.getMessage())


def _silent(text: str) -> None:
    del text


def _terminal(*, stderr: bool) -> Terminal:
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # an id must not stop a command on a terminal that lacks it
    return Terminal(stderr=stderr, highlight=False, markup=False, emoji=False)


def _say(terminal: Terminal, text: str) -> None:
    """Not with the terminal's own ``print``, which makes spaces of tabs."""
    try:
        terminal.file.write(f"{text}\n")
        terminal.file.flush()
    except BrokenPipeError:
        # The reader has what it wanted (`| head`). Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.file.fileno())
        raise SystemExit(1) from None


def _lines(record: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{_cell(name)}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{_cell(name)}: {_cell(value)}"


def _cell(value: Any) -> str:
    if value is None or value in ((), [], {}):
        return "-"
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return one_line(text)  # a row stays a line, a cell a cell


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
