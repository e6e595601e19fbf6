"""`--tables` says what is exported: all that it names, however often it is given."""

import pytest

from vv_exports_tests.archives import write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import write_config


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "archive", run_id="run_0", executed_at="2026-10-01T00:00:00Z")
    write_config(tmp_path)
    return tmp_path


def dry_run(folder, *options):
    return run(folder, "export", "index", "idx", "--dry-run", "--json", *options)


@pytest.mark.parametrize(
    "options", [("--tables", "failures,segments"), ("--tables", "segments", "--tables", "failures")]
)
def test_every_table_that_is_named_is_exported(folder, options):
    """Given twice, only the last counted, and the other table was missing without a word."""
    assert dry_run(folder, *options).document["content"]["tables"] == ["segments", "failures"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tables", ""), "tables: []: must not be empty"),
        (("--tables", "segments", "--tables", "segments"), "names a table twice"),
        (("--tables", "segments,video"), "tables.1: 'video' is not allowed. Did you mean 'videos'?"),
    ],
)
def test_tables_that_are_wrong_are_refused(folder, options, said):
    answer = dry_run(folder, *options)
    assert answer.code == 2
    assert said in answer.document["error"]["message"]
