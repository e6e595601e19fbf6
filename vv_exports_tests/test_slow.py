"""``make test-fast`` stays fast: what is slow is marked, or named."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import time
import pytest

def work():
    stop = time.process_time() + 0.06
    while time.process_time() < stop:
        pass

def test_works_and_says_nothing():
    work()

@pytest.mark.slow
def test_works_and_says_so():
    work()

def test_waits():
    time.sleep(0.06)

def test_uses_a_server(servers):
    pass
"""


@pytest.fixture
def run(pytester):
    conftest = Path(__file__).with_name("conftest.py").read_text()
    limit = "_FAST_CPU_SECONDS = 1.0"
    assert limit in conftest
    pytester.makeconftest(conftest.replace(limit, "_FAST_CPU_SECONDS = 0.05"))
    pytester.makeini("[pytest]\nmarkers = slow\n")
    pytester.makepyfile(TESTS)
    return pytester.runpytest_inprocess


def test_a_test_that_works_for_long_and_does_not_say_so_is_named(run):
    said = run("-q", "-p", "no:cacheprovider", "-k", "not server")
    said.assert_outcomes(passed=3, deselected=1)
    said.stdout.fnmatch_lines(["*more than 0.05 s of CPU, and not marked slow*", "*test_works_and_says_nothing"])
    for other in ("test_works_and_says_so", "test_waits"):
        said.stdout.no_fnmatch_line(f"*{other}*")


def test_what_uses_a_server_is_slow_whether_it_says_so_or_not(run):
    said = run("-v", "-p", "no:cacheprovider", "-m", "not slow")
    said.assert_outcomes(passed=2, deselected=2)
    said.stdout.fnmatch_lines(["*test_works_and_says_nothing PASSED*", "*test_waits PASSED*"])
