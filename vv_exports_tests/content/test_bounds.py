"""Rows of unusual shapes: what a format needs for them is bounded by a block, or by a few times the longest row."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vv_exports.domain.content_options import TABLE_FORMATS

MEBIBYTE = 1 << 20
REPOSITORY = Path(__file__).parents[2]
MOST = {"wide": 320 * MEBIBYTE, "long": 10 * 64 * MEBIBYTE, "deep": 64 * MEBIBYTE}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_FORMATS)
@pytest.mark.parametrize("case", MOST)
def test_memory_is_bounded_for_wide_long_and_deep_rows(case, name):
    done = subprocess.run(
        [sys.executable, "-m", "vv_exports_tests.content.bounds", name, case],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        check=True,
    )
    peak = json.loads(done.stdout)
    assert max(peak.values()) < MOST[case], peak
