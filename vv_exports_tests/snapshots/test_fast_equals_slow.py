"""Text that goes straight to columns gives what decoded documents give, or goes that way: the same files to the byte,
the same data version, the same refusal. And answers are what the source says, by a reader that is neither.
"""

import io
import json
import os
import shutil
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vv_exports.errors import SourceDataError
from vv_exports.snapshots import typed_pages
from vv_exports.sources import archive_files
from vv_exports_tests.archives import read_archived_run, write_run
from vv_exports_tests.snapshots.hostile_lines import HOSTILE, SCHEMAS, result
from vv_exports_tests.snapshots.odd_lines import OddLines

EXAMPLES = int(os.environ.get("VV_EXPORTS_TESTS_ODD_RUNS", "260"))
"""Runs of about a hundred results, each of another schema. More find more."""


def outcome(archive: Path, spool: Path, *, fast: bool):
    """What reading gives: all that is kept of it, or why it is refused."""
    spool.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        if not fast:
            patched.setattr(typed_pages, "_types_of", lambda table: None)
        try:
            found = read_archived_run(archive, spool)
        except SourceDataError as error:
            return str(error)
        finally:
            left = {path.name: path.read_bytes() for path in sorted(spool.iterdir())}
            shutil.rmtree(spool)
    return found.data_version, found.kept_as_json, found.rescued_rows, left


def assert_same(folder: Path, block: int | None = None):
    """Returns the slow reading's outcome."""
    with pytest.MonkeyPatch.context() as patched:
        if block is not None:
            patched.setattr(archive_files, "_BLOCK", block)
        fast = outcome(folder / "archive", folder / "fast", fast=True)
    slow = outcome(folder / "archive", folder / "slow", fast=False)
    assert fast == slow, (folder / "archive").name
    return slow


def told(value):
    """A decoded value with all types told apart."""
    if isinstance(value, dict):
        return {name: told(item) for name, item in value.items()}
    if isinstance(value, list):
        return [told(item) for item in value]
    return type(value), value


def exactly(value):
    """A JSON text's value by the standard library, in text that tells every digit and type."""
    return json.dumps(told(value), default=str, sort_keys=True)


def decoded(text):
    return json.loads(text, parse_float=lambda number: Decimal(number).normalize())


def assert_answers(lines, answers: bytes):
    """The answers in a snapshot are the lines' metadata, to the digit."""
    found = pq.read_table(io.BytesIO(answers)).column("metadata").to_pylist()
    wanted = [exactly(decoded(line)["metadata"]) for line in lines]
    assert sorted(exactly(decoded(text)) for text in found) == sorted(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_hostile_line_among_good_ones_is_read_alike(tmp_path, schema):
    run = write_run(tmp_path / "archive", segments=[], schema=SCHEMAS[schema], completed_segments=None)
    good = [json.dumps(result(number)).encode() for number in (1, 9)]
    full = [json.dumps(result(number, rate=2.5, tags=[], opt={"n": 1})).encode() for number in (1, 9)]
    read = 0
    for hostile in HOSTILE.values():
        text = hostile if isinstance(hostile, bytes) else hostile.encode()
        for before, after in (good, full, (b"", b"")):
            (run / "segment_results.jsonl").write_bytes(b"\n".join([before, text, after, b""]))
            slow = assert_same(tmp_path, 300 if before else None)
            read += not isinstance(slow, str)
    assert len(HOSTILE) == 106
    assert read > len(HOSTILE)


SEEN = {"documents": 0, "schemas": set(), "read": 0}


@pytest.mark.slow
class TestGenerated:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        seed=st.integers(0, 2**40),
        odd=st.sampled_from([0, 2, 10, 100]),
        count=st.integers(80, 120),
        block=st.sampled_from([300, 4_000, 1 << 18]),
        change=st.sampled_from(["none", "none", "none", "broken", "turned", "twice"]),
    )
    def test_any_run_is_read_alike(self, seed, odd, count, block, change):
        lines_of = OddLines((seed, odd, count, block, change), odd)
        schema = lines_of.schema()
        lines = [lines_of.segment(number, schema) for number in range(count)]
        if change == "broken":
            lines[count // 2] = lines_of.broken(lines[count // 2])
        elif change == "turned":
            lines[3:5] = lines[4:2:-1]
        elif change == "twice":
            lines.append(lines[count // 3])
        with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
            folder = Path(name)
            run = write_run(folder / "archive", segments=[], schema=schema, completed_segments=None)
            text = b"\n".join(lines) + b"\n"
            (run / "segment_results.jsonl").write_bytes(b"\xef\xbb\xbf" + text if seed % 7 == 0 else text)
            slow = assert_same(folder, block)
            SEEN["documents"] += len(lines)
            SEEN["schemas"].add(json.dumps(schema))
            if not isinstance(slow, str):
                SEEN["read"] += 1
                assert_answers(lines, slow[-1]["segments-00000.answers.parquet"])

    def test_they_were_many(self):
        assert SEEN["documents"] >= 20_000 * EXAMPLES // 260
        assert len(SEEN["schemas"]) >= 200 * EXAMPLES // 260
        assert SEEN["read"] > len(SEEN["schemas"]) // 3, "most runs must be ones that can be read"
