"""Processes of our own settle how they use memory; those of others are left as they are."""

import os
import subprocess
import sys

import pytest

TOLD = """
import gc, sys, pyarrow as pa
print(pa.default_memory_pool().backend_name, gc.get_threshold()[0], file=sys.stderr)
"""
COMMAND = """
import contextlib
from vv_exports.cli import main
with contextlib.suppress(SystemExit):
    main(["automations", "list"])
"""
LOADED = """
import pyarrow as pa
pa.array(["taken before"])
from vv_exports.definitions import defs
defs()
"""
USED = """
from vv_exports.client import VVExports
VVExports().automations.list()
"""


def told_after(code, folder, **environment):
    known = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run(
        [sys.executable, "-c", code + TOLD],
        cwd=folder,
        env={**known, "VV_EXPORTS_CONFIG": str(folder / "vv_exports.yaml"), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.split("\n")[-2].split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("own_process")
    subprocess.run([sys.executable, "-m", "vv_exports", "demo"], cwd=made, check=True, capture_output=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("code", [COMMAND, LOADED], ids=["a command", "Dagster's definitions"])
def test_a_process_of_our_own_takes_memory_from_the_system(code, folder):
    assert told_after(code, folder) == ["system", "20000"]
    assert told_after(code, folder, ARROW_DEFAULT_MEMORY_POOL="jemalloc") == ["jemalloc", "20000"]


@pytest.mark.slow
def test_a_program_that_uses_the_package_decides_for_itself(folder):
    assert told_after(USED, folder) == told_after("", folder)
