"""Runs of unusual shapes have a snapshot or are refused with the place, in memory that the shape bounds."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vv_exports.snapshots.reading import PART_ROWS
from vv_exports_tests.snapshots.bounds import CASES

MEBIBYTE = 1 << 20
REPOSITORY = Path(__file__).parents[2]
MOST = {
    "plain": 128 * MEBIBYTE,
    "2,000 properties": 400 * MEBIBYTE,
    "60 levels": 160 * MEBIBYTE,
    "an undeclared value 500 deep": 200 * MEBIBYTE,
    "a value of 200 MB": 14 * 200 * MEBIBYTE,
    "200 MB of small values": 14 * 200 * MEBIBYTE,
}


def grown(case):
    command = [sys.executable, "-m", "vv_exports_tests.snapshots.bounds", case]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("case", MOST)
def test_a_run_of_an_unusual_shape_is_kept_and_read_in_bounded_memory(case):
    _, answer, rows = CASES[case]()
    found = grown(case)
    assert found["rows"] == [rows, rows]
    assert rows < PART_ROWS
    assert found["answers"] == [hashlib.sha256(answer.encode()).hexdigest()], "as it was answered"
    assert found["grown"] < MOST[case], found["grown"] // MEBIBYTE


@pytest.mark.slow
def test_a_value_that_is_nested_too_deep_is_refused_with_its_place():
    found = grown("a value too deep")
    assert "segment_results.jsonl, line 1: expected one JSON document: arrays or objects are nested" in found["refused"]
    assert found["grown"] < 64 * MEBIBYTE
