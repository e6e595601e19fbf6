import subprocess
import sys
from pathlib import Path


def test_who_may_import_whom_is_kept():
    lint = Path(sys.executable).with_name("lint-imports")
    outcome = subprocess.run(
        [lint, "--no-cache"], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout
