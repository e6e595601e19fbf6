"""What people and programs see: ids are data, and must come out as they are, one row a line, on any terminal."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from vv_exports.console import Console
from vv_exports.delivery.destination import Left, Owner
from vv_exports.delivery.left_places import Removal

_ROWS = [
    {"run_id": "[red]r[/red]", "uri": "a\tb\nc\x1b[31m", "count": None},
    {"run_id": "at:100:00 :smile: [/nope]", "uri": "日本語　のインデックス", "count": 3},
]
_SHOW = f"""
from vv_exports.console import Console
console = Console(as_json=False)
console.line("[bold]x[/bold] :100:")
console.table({_ROWS!r}, empty="")
with console.progress() as progress:
    progress.snapshot("[/nope] :100:", 10)
    progress.file("[red]x", 5)
"""


def _on_a_terminal(columns: int, **environ: str) -> str:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", _SHOW],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **environ},
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the terminal is closed
            break
        said += block
    os.close(ours)
    assert child.wait(timeout=30) == 0, said.decode()
    return said.decode()


def _in_a_pipe(capsys, show) -> tuple[str, str]:
    show(Console(as_json=False))
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_a_record_is_a_line_for_each_field_without_marks_of_python(capsys):
    record = {"paused": False, "held_runs": (), "due_runs": ("r1", "r2"), "problems": {}, "last_error": None}
    out, _ = _in_a_pipe(capsys, lambda console: console.record(record))
    assert out == "paused: False\nheld_runs: -\ndue_runs: r1, r2\nproblems: -\nlast_error: -\n"
    problems = {"problems": {"r\n1": "a.json: no JSON", "r2": "is a\x1b[31m link"}}
    out, _ = _in_a_pipe(capsys, lambda console: console.record(problems))
    assert [line.partition(": ")[0] for line in out.splitlines()] == ["problems:", "  r\\n1", "  r2"]
    assert "\x1b" not in out


def test_in_a_pipe_every_row_is_a_line_and_every_id_as_it_is(capsys):
    out, _ = _in_a_pipe(capsys, lambda console: console.table(_ROWS, empty=""))
    assert out.splitlines() == [
        "run_id\turi\tcount",
        "[red]r[/red]\ta\\tb\\nc\\x1b[31m\t-",
        "at:100:00 :smile: [/nope]\t日本語　のインデックス\t3",
    ]


def test_lines_and_notes_change_nothing_but_what_would_steer_the_terminal(capsys):
    out, err = _in_a_pipe(
        capsys, lambda console: (console.line("[b]:100:[/b]\n\x1b[2J\u202e"), console.note("[b]:100:\x07"))
    )
    assert out == "[b]:100:[/b]\n\\x1b[2J\\u202e\n"
    assert err == "[b]:100:\\x07\n"


@pytest.mark.parametrize("columns", [40, 200])
def test_on_a_terminal_ids_are_not_markup(columns):
    said = _on_a_terminal(columns)
    assert "[bold]x[/bold] :100:" in said
    assert "\x1b[31m" not in said.replace("\\x1b[31m", "")
    assert "💯" not in said
    flat = "".join(said.split())
    assert "[red]r[/red]" in flat or columns == 40
    assert "uploaded [red]x" in said


@pytest.mark.slow
def test_a_narrow_terminal_folds_and_loses_nothing():
    said = _on_a_terminal(40, NO_COLOR="1")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said[: said.index("starting")]).splitlines()[1:-1]
    assert all(len(line) <= 40 for line in lines)
    first_column = "".join(line.split(" ")[0] for line in lines)
    assert "run_id[red]r[/red]at:100:00" in first_column


def test_a_document_is_json_whatever_the_encoding(monkeypatch):
    for encoding in ("utf-8", "ascii", "latin-1"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        Console(as_json=True).document({"run_id": "é日\udcff[red]:100:", "rows": (1, None)})
        sys.stdout.flush()
        assert json.loads(raw.getvalue().decode(encoding)) == {"run_id": "é日\udcff[red]:100:", "rows": [1, None]}


def test_lines_fit_an_encoding_that_lacks_their_characters(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Console(as_json=False).line("prompt run é")
    sys.stdout.flush()
    assert raw.getvalue() == b"prompt run \\xe9\n"


@pytest.mark.slow
@pytest.mark.parametrize("show", ["document([1] * 100000)", "line('x' * 100000)"])
def test_a_reader_that_leaves_early_is_no_error(show):
    """`vv-exports --json runs list idx | head -1` said: unexpected BrokenPipeError."""
    program = f"from vv_exports.console import Console\nConsole(as_json=False).{show}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""


def test_progress_in_a_pipe_is_one_line_for_each_step(capsys):
    def show(console):
        with console.progress() as progress:
            progress.snapshot("[/run]", 1200)
            progress.file("run segments", 5)

    assert _in_a_pipe(capsys, show) == ("", "snapshot of [/run]: 1,200 segments\nuploaded run segments: 5 rows\n")


def test_with_json_only_documents_are_printed(capsys):
    threads = threading.enumerate()
    console = Console(as_json=True)
    console.line("for people")
    console.table([], empty="nothing")
    console.table([{"a": 1}], empty="nothing")
    assert capsys.readouterr().out == ""
    assert set(threading.enumerate()) <= set(threads)


def test_an_owner_and_where_it_has_gone_are_objects_for_programs(capsys):
    owner = Owner(type="automation", index_id="idx", automation="team")
    left = Left(at=datetime(2026, 11, 26, tzinfo=UTC), to="/new", place="/old")
    place = Removal("old", "/old", owner, left, (), (), (), 0, dry_run=True)
    Console(as_json=True).document([place])
    (said,) = json.loads(capsys.readouterr().out)
    assert said["owner"] == {"type": "automation", "index_id": "idx", "automation": "team", "export_id": None}
    assert said["left"] == {"at": "2026-11-26T00:00:00Z", "to": "/new", "place": "/old"}


def test_a_mapping_in_a_mapping_has_lines_of_its_own_too(capsys):
    record = {"content": {"format": "csv", "fields": {"exclude": ["a", "b"]}, "redact": {'metadata."a.b"': "mask"}}}
    out, _ = _in_a_pipe(capsys, lambda console: console.record(record))
    assert out.splitlines() == [
        "content:",
        "  format: csv",
        "  fields:",
        "    exclude: a, b",
        "  redact:",
        '    metadata."a.b": mask',
    ]
