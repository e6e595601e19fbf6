"""On Windows one line says that it is not supported, whichever way the package is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vv_exports

pytestmark = pytest.mark.slow

REPOSITORY = Path(vv_exports.__file__).parents[1]
WINDOWS = """
import sys
sys.platform = "win32"
for name in ("fcntl", "termios", "pwd", "grp", "resource"):
    sys.modules[name] = None
"""
WAYS = {
    "module": [sys.executable, "-m", "vv_exports", "config", "check"],
    "script": [sys.executable, str(Path(sys.executable).with_name("vv-exports")), "--help"],
    "json": [sys.executable, "-m", "vv_exports", "runs", "list", "idx", "--json"],
    "code location": [sys.executable, "-c", "import vv_exports.definitions"],
    "client": [sys.executable, "-c", "from vv_exports.client import VVExports"],
}


def started(folder: Path, way: str, sitecustomize: str) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(sitecustomize)
    return subprocess.run(
        WAYS[way],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("way", WAYS)
def test_windows_is_refused_in_one_line(tmp_path, way):
    done = started(tmp_path, way, WINDOWS)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("vv_exports does not run on Windows: ")
    assert "WSL" in line


def test_elsewhere_nothing_is_said(tmp_path):
    done = started(tmp_path, "script", "")
    assert (done.returncode, done.stderr) == (0, "")
