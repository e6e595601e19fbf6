"""How the command line speaks: results on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from vv_exports.pipeline import Progress


class Console:
    """Output of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Terminal(soft_wrap=True, highlight=False)
        self._err = Terminal(stderr=True, soft_wrap=True, highlight=False)

    def document(self, value: Any) -> None:
        """The one JSON document of a ``--json`` command."""
        sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2, default=str) + "\n")

    def line(self, text: str) -> None:
        """A line for people; nothing with ``--json``."""
        if not self.as_json:
            self._out.print(text, markup=False)

    def note(self, text: str) -> None:
        """A line on stderr."""
        self._err.print(text, markup=False)

    def table(self, rows: Sequence[dict[str, Any]], *, empty: str) -> None:
        """Rows for people: a table on a terminal, tab-separated lines in a pipe."""
        if not rows:
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
            table.add_row(*(_cell(value) for value in row.values()))
        self._out.print(table)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Progress of long work: moving bars on a terminal, one line for each step where there is none."""
        if not self._err.is_terminal:
            yield Progress(
                snapshot=lambda run_id, rows: self.note(f"snapshot of {run_id}: {rows:,} segments"),
                file=lambda what, rows: self.note(f"delivered {what}: {rows:,} rows"),
            )
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self._err, transient=True) as bars:
            task = bars.add_task("starting", total=None)
            yield Progress(
                snapshot=lambda run_id, rows: bars.update(task, advance=rows, description=f"snapshot of {run_id}"),
                file=lambda what, rows: bars.update(task, advance=rows, description=f"delivered {what}"),
            )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
