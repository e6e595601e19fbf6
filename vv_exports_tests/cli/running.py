"""Commands run as a user runs them, in a folder, and what they leave there."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import vv_exports
from vv_exports.cli import main
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, write_config

REPOSITORY = Path(vv_exports.__file__).parents[1]


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; two of them, or anything beside, do not parse."""
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return self.out + self.err


def run(folder: Path, *arguments: str, **environment: str) -> Said:
    """The command in this process; an exception that it let through fails the test."""
    with contextlib.chdir(folder):
        runner = CliRunner(env={"VV_EXPORTS_CONFIG": None, "DAGSTER_HOME": None, **environment})
        result = runner.invoke(main, arguments)
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def spawn(folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "vv_exports"), **environment: str) -> Said:
    """The command in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("VV_", "DAGSTER_"))}
    result = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(result.returncode, result.stdout, result.stderr)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, empty folders included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def write_deployment(folder: Path, config: dict[str, Any] = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "archive"
    write_run(archive, run_id="run_123", executed_at="2026-10-01T00:00:00Z")
    write_run(archive, run_id="run_124", executed_at="2026-10-02T00:00:00Z", segments=2)
    for status in ("pending", "processing", "failed", "cancelled"):
        write_run(archive, run_id=f"run_{status}", executed_at="2026-10-04T00:00:00Z", status=status)
    write_run(archive, index_id="idx_new", run_id="run_a", status="processing")
    write_config(folder, config)
    return folder
