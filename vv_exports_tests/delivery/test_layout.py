"""The layout version and the log's format version are promises to readers: golden files hold what they promise."""

import re
from hashlib import sha256

import pytest

from vv_exports.snapshots.tables import LAYOUT_VERSION
from vv_exports_tests.layouts import COMMAND, GOLDEN, LAYOUT, LOG, SUMS, differing, golden, made, sums


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


def of(version, files):
    return {path: content for path, content in files.items() if path.startswith(f"{version}/")}


def test_the_same_results_give_the_columns_and_bytes_of_this_layout_version(found):
    assert golden(LAYOUT), f"{LAYOUT} has no golden files yet: write them with `{COMMAND}`"
    changed = differing(golden(LAYOUT), of(LAYOUT, found))
    assert not changed, (
        f"delivered content is another than layout version {LAYOUT_VERSION} promises. Undo that; or, if it is meant, "
        "raise LAYOUT_VERSION, so that everything is delivered anew, and write its golden files with "
        f"`{COMMAND}`:\n" + "\n".join(changed)
    )


def test_the_log_is_written_as_its_format_version_says(found):
    assert golden(LOG), f"{LOG} has no golden files yet: write them with `{COMMAND}`"
    changed = differing(golden(LOG), of(LOG, found))
    assert not changed, (
        "the log is written in another shape. Undo that; or, if it is meant, raise FORMAT_VERSION where readers of the "
        f"old shape would misread the new one, else remove the folder {LOG}; and write golden files with "
        f"`{COMMAND}`:\n" + "\n".join(changed)
    )


def test_golden_files_stay_as_they_were_written():
    """Also those of earlier versions: deliveries of them are out there."""
    there = {path.relative_to(GOLDEN).as_posix(): path for path in GOLDEN.rglob("*") if path.is_file() and path != SUMS}
    assert {path: sha256(file.read_bytes()).hexdigest() for path, file in there.items()} == sums()
    assert all((GOLDEN / f"layout-{version}").is_dir() for version in range(1, LAYOUT_VERSION + 1))


@pytest.mark.parametrize(
    ("changed", "value", "told"),
    [
        ("vv_exports.formats.csv._LINE_END", "\n", "csv/.*, line 1: "),
        (
            "vv_exports.snapshots.tables.RUN_COLUMNS",
            ("index_id", "prompt_run_id", "prompt_id"),
            "parquet/.*, line 4: ",
        ),
        ("vv_exports.snapshots.reading.HASHED_AS", 2, "snapshots/.*, line 3: "),
    ],
)
def test_a_change_of_what_readers_see_is_found_and_named(tmp_path, monkeypatch, changed, value, told):
    monkeypatch.setattr(changed, value)
    differences = differing(golden(LAYOUT), of(LAYOUT, made(tmp_path)))
    assert [line for line in differences if re.match(f"{LAYOUT}/{told}", line)]
