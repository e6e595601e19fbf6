"""How far long work is: bars with rate and time left on a terminal, and none anywhere else."""

import os
import pty
import re
import subprocess
import sys
import threading
from collections import Counter

import pytest

from vv_exports.client import VVExports
from vv_exports.console import Console
from vv_exports.domain.progress import Progress
from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import REPOSITORY, run, write_deployment
from vv_exports_tests.deployments import client_of

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def on_a_terminal(program: str, *arguments: str, cwd) -> str:
    """What a program shows on a terminal of 120 columns."""
    leader, follower = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(leader, 65536):
                shown.append(data)
        except OSError:  # the last process has closed the other end
            pass

    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VV_", "DAGSTER_"))}
    kept |= {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, *program.split(), *arguments], cwd=cwd, env=kept, stdout=follower, stderr=follower
    ) as child:
        os.close(follower)
        reading = threading.Thread(target=read)
        reading.start()
        child.wait(timeout=120)
        reading.join(timeout=10)
    os.close(leader)
    assert child.returncode == 0, b"".join(shown).decode()
    return _ESCAPES.sub("", b"".join(shown).decode())


WORK = """
import time
from vv_exports.console import Console
with Console(as_json=False).progress() as progress:
    for step in ("reading", "encoding", "uploading", "verifying"):
        progress.work(step, 0, 4_000_000)
    for _ in range(4):
        for step in ("reading", "encoding", "uploading", "verifying"):
            progress.work(step, 500_000, 0)
        time.sleep(0.15)
"""


def test_each_step_has_a_bar_with_its_rate_and_the_time_left(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    shown = on_a_terminal("work.py", cwd=tmp_path)
    for step, amount in {
        "reading": r"2,000,000 of 4,000,000 segments, [\d,]+/s",
        "encoding": r"2,000,000 of 4,000,000 rows, [\d,]+/s",
        "uploading": r"2\.0 MB of 4\.0 MB, [\d.]+ MB/s",
        "verifying": r"2\.0 MB of 4\.0 MB, [\d.]+ MB/s",
    }.items():
        assert re.search(rf"{step} .*{amount} +\d\d:\d\d +0:00:0", shown), (step, shown[-2000:])


@pytest.mark.slow
def test_a_delivery_and_its_verification_show_their_steps_on_a_terminal(tmp_path):
    folder = write_deployment(tmp_path)
    shown = on_a_terminal("-m vv_exports", "automations", "run", "idx", "team", cwd=folder)
    assert re.search(r"reading .*5 of 5 segments", shown)
    assert re.search(r"encoding .*5 of 5 rows", shown)
    assert "uploading" in shown
    assert shown.rstrip().splitlines()[-1].startswith("idx/team: delivered 2 prompt runs")
    shown = on_a_terminal("-m vv_exports", "verify", "conn_export", cwd=folder)
    assert "verifying" in shown
    assert ": fine (2 prompt runs" in shown


def test_where_output_is_no_terminal_there_is_no_bar(tmp_path, capsys):
    folder = write_deployment(tmp_path)
    said = run(folder, "automations", "run", "idx", "team")
    assert "\x1b" not in said.text
    assert "encoding" not in said.text
    assert "snapshot of run_123: 3 segments" in said.err
    assert run(folder, "verify", "conn_export").err == ""
    with Console(as_json=False).progress() as progress:
        progress.work("verifying", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_all_that_was_to_be_done_is_told_as_done(tmp_path):
    done: Counter[str] = Counter()
    total: Counter[str] = Counter()
    guard = threading.Lock()

    def work(step: str, so_much: int, more: int) -> None:
        with guard:
            done[step] += so_much
            total[step] += more

    folder = write_deployment(tmp_path)
    write_run(folder / "archive", run_id="run_videos", executed_at="2026-10-03T00:00:00Z", segments=7)
    client_of(folder)
    client = VVExports(folder / "vv_exports.yaml", progress=Progress(work=work))
    client.automations.run("idx", "team")
    size = sum(file.bytes for file in client.pipeline.automations.get("idx", "team").collection().files)
    assert done == total == {"reading": 12, "encoding": 12, "uploading": size}
    client.verify("conn_export")
    assert done["verifying"] == total["verifying"] == size
    client.automations.run("idx", "team")
    client.automations.run("idx", "team", ["run_123"])
    assert (done["reading"], done["uploading"]) == (12, size), "what is there is neither read nor uploaded again"
    assert done == total
