"""Ids may hold anything; what people read stays one line for each thing said, and steers no terminal."""

import logging
import re

import pytest

from vv_exports.console import Console
from vv_exports.defs.sensors import _few
from vv_exports.errors import PartlyFailedError
from vv_exports.printable import counted, one_line, printable
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, write_config

EVIL = {
    "newline": "a\nError: all is lost",
    "return": "a\rb",
    "escape": "a\x1b[2Jb",
    "csi": "a\x9b2Jb",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "right to left": "a\u202eb",
    "isolate": "a\u2066b",
    "mark": "a\u200fb",
    "tab": "a\tb",
    "nel": "a\x85b",
}
STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200e\u200f]")


@pytest.fixture(params=EVIL)
def evil(request):
    return EVIL[request.param]


def test_an_id_is_one_line_that_steers_nothing_and_ids_stay_apart(evil):
    assert not STEERS.search(one_line(evil))
    assert len({one_line(text) for text in EVIL.values()}) == len(EVIL)
    assert one_line("2026/09 “take 1” é 長い \U0001f600") == "2026/09 “take 1” é 長い \U0001f600"


def test_text_keeps_its_own_lines():
    assert printable("one\n\ttwo\x1b") == "one\n\ttwo\\x1b"


def test_progress_and_logs_are_one_line_for_each_step(capsys, evil):
    console = Console(as_json=False)
    with console.log(), console.progress() as progress:
        progress.snapshot(evil, 3)
        progress.file(f"{evil} segments", 3)
        logging.getLogger("vv_exports.sources").info("%s: 3 of 4 media", evil)
        logging.getLogger("vv_exports.sources").warning("%s is unfinished", evil)
    said = capsys.readouterr().err
    assert said.count("\n") == 4
    assert not STEERS.search(said.replace("\n", ""))


def test_errors_and_sensors_that_list_ids_keep_each_on_its_line(evil):
    said = str(PartlyFailedError("read", 1, {evil: ValueError("why"), "b": ValueError("so")}))
    assert said.count("\n") == 2
    assert not STEERS.search(said.replace("\n", "") + _few([evil]))


def test_every_command_that_names_a_run_keeps_it_on_its_line(tmp_path):
    write_config(tmp_path)
    for evil in EVIL.values():
        write_run(tmp_path / "archive", run_id=evil)
    broken = write_run(tmp_path / "archive", run_id="b\nError: forged\x1b")
    (broken / "prompt_run.json").write_text("{")
    said = [
        run(tmp_path, "runs", "list", "idx"),
        run(tmp_path, "backfill", "idx", "team", "--dry-run"),
        run(tmp_path, "automations", "run", "idx", "team"),
        run(tmp_path, "source", "check"),
        run(tmp_path, "export", "index", "idx", "--run", EVIL["newline"], "--run", "no\nError: such"),
    ]
    for one in said:
        assert not re.search(STEERS.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"), one.text)
        assert not re.search(r"^(Error: )?(Error: (all|forged|such)|b$)", one.text, re.MULTILINE)
    assert "snapshot of a\\nError: all is lost: 3 segments" in said[2].err
    assert said[0].out.count("\n") == len(EVIL) + 2


def test_every_command_that_names_an_index_keeps_it_on_its_line(tmp_path):
    evil = "an\nError: all is lost\x1b[2J"
    write_config(tmp_path, CONFIG | {"indexes": {evil: CONFIG["indexes"]["idx"]}})
    write_run(tmp_path / "archive", index_id=evil)
    said = [
        run(tmp_path, "source", "check"),
        run(tmp_path, "runs", "sync", evil),
        run(tmp_path, "runs", "list", evil),
        run(tmp_path, "runs", "prune", evil, "--dry-run"),
        run(tmp_path, "automations", "list"),
        run(tmp_path, "automations", "show", evil, "team"),
        run(tmp_path, "automations", "run", evil, "team"),
        run(tmp_path, "automations", "pause", evil, "team", "--reason", evil),
        run(tmp_path, "backfill", evil, "team", "--dry-run"),
        run(tmp_path, "backfill", evil, "off"),
        run(tmp_path, "export", "index", evil),
        run(tmp_path, "exports", "list"),
        run(tmp_path, "verify", "conn_export"),
        run(tmp_path, "runs", "list", "no\nError: all is lost"),
    ]
    for one in said:
        assert "\nError: all" not in one.text, one
        assert "\x1b" not in one.text


def test_one_of_something_is_not_some():
    assert [counted(count, "file") for count in (0, 1, 2, 2000)] == ["0 files", "1 file", "2 files", "2,000 files"]
