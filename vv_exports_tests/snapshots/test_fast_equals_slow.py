"""Text that goes straight to columns gives what decoded documents give, or goes that way: the same files to the byte,
the same data version, the same refusal. And rows and answers are what the source says, by a reader that is neither.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vv_exports.domain.prompt_runs import Prompt
from vv_exports.errors import SourceDataError
from vv_exports.snapshots import reading, typed_pages, typed_values
from vv_exports.snapshots.tables import tables_of
from vv_exports.sources import archive_files
from vv_exports_tests.archives import read_archived_run, write_run
from vv_exports_tests.snapshots import plain_reading
from vv_exports_tests.snapshots.hostile_lines import HOSTILE, SCHEMAS, result
from vv_exports_tests.snapshots.odd_lines import OddLines
from vv_exports_tests.snapshots.odd_schemas import OddSchemas

EXAMPLES = int(os.environ.get("VV_EXPORTS_TESTS_ODD_RUNS", "220"))
"""Runs of about a hundred results, each of another schema. More find more."""
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
FILES = {"segments": "segment_results", "videos": "video_results", "failures": "failed_segments"}


@dataclass(frozen=True)
class Sizes:
    """How much is taken at a time: bytes of a file, rows that are written, pieces that rows are put together from, and
    the most names of an object that has a type. They must not show."""

    block: int = archive_files._BLOCK
    group: int = reading._GROUP_ROWS
    pieces: int = typed_pages._MOST_PIECES
    names: int = typed_values._MOST_NAMES

    def patch(self, patched: pytest.MonkeyPatch) -> None:
        patched.setattr(archive_files, "_BLOCK", self.block)
        patched.setattr(reading, "_GROUP_ROWS", self.group)
        patched.setattr(typed_pages, "_MOST_PIECES", self.pieces)
        patched.setattr(typed_values, "_MOST_NAMES", self.names)


@dataclass(frozen=True)
class OddRun:
    """A run in an archive: its schema, and the lines of the file of each table."""

    schema: Any
    lines: Mapping[str, list[bytes]]
    sizes: Sizes = Sizes()
    bom: bool = False
    compressed: bool = False

    def text(self, table: str) -> bytes:
        lines = b"".join(line + b"\n" for line in self.lines[table])
        return b"\xef\xbb\xbf" + lines if self.bom else lines

    def write(self, archive: Path) -> None:
        level = self.schema if self.lines["videos"] else None
        folder = write_run(archive, segments=[], schema=self.schema, video_level_schema=level, completed_segments=None)
        for table, stem in FILES.items():
            plain = folder / f"{stem}.jsonl"
            plain.unlink(missing_ok=True)
            if self.lines[table] and self.compressed:
                plain.with_suffix(".jsonl.zst").write_bytes(pa.compress(self.text(table), "zstd", asbytes=True))
            elif self.lines[table] or table == "segments":
                plain.write_bytes(self.text(table))

    def __str__(self) -> str:
        lines = [f"{table}: {line!r}" for table, lines in self.lines.items() for line in lines]
        return "\n".join([f"schema: {json.dumps(self.schema)}", f"{self.sizes}, bom: {self.bom}", *lines])


@dataclass(frozen=True)
class Outcome:
    """What reading a run gives: all that is kept of it, or why it is refused."""

    refusal: tuple[type[Exception], str] | None = None
    told: Any = None
    files: Mapping[str, bytes] | None = None

    def tables(self) -> dict[str, pa.Table]:
        """The rows of each table, as they are in the files."""
        return {
            name.removesuffix("-00000.parquet"): pq.read_table(pa.BufferReader(data))
            for name, data in (self.files or {}).items()
            if not name.endswith(".answers.parquet")
        }

    def answers(self, table: str) -> list[str]:
        return pq.read_table(pa.BufferReader(self.files[f"{table}-00000.answers.parquet"])).column(0).to_pylist()


def without_types(patched: pytest.MonkeyPatch) -> None:
    """All goes through decoded documents."""
    patched.setattr(typed_pages, "_types_of", lambda table: None)


def outcome(folder: Path, sizes: Sizes, *, fast: bool) -> Outcome:
    spool = folder / "spool"
    spool.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        sizes.patch(patched)
        if not fast:
            without_types(patched)
        try:
            found = read_archived_run(folder / "archive", spool)
        except Exception as error:  # noqa: BLE001 - whatever it is, both ways are to raise it
            return Outcome((type(error), str(error)))
        else:
            kept = {path.name: path.read_bytes() for path in spool.iterdir()}
            return Outcome(None, (found.data_version, found.kept_as_json, found.rescued_rows), kept)
        finally:
            shutil.rmtree(spool)


def difference(run: OddRun) -> tuple[str | None, Outcome]:
    """What two readings of a run differ in, None where in nothing; and what the slow one gives."""
    with TemporaryDirectory(dir=IN_MEMORY) as name:
        folder = Path(name)
        run.write(folder / "archive")
        slow = outcome(folder, run.sizes, fast=False)
        readings = {"fast": outcome(folder, run.sizes, fast=True)}
        if run.sizes != Sizes() and slow.refusal is None:  # which of several faults is told first depends on the sizes
            readings["fast, in one page"] = outcome(folder, Sizes(), fast=True)
        for how, found in readings.items():
            if found != slow:
                return f"{how}: {_where(found, slow)}", slow
        if slow.refusal is None:
            return _untruth(run, slow), slow
        if slow.refusal[0] is not SourceDataError:
            return f"a refusal that is none of ours: {slow.refusal}", slow
        return None, slow


def _where(one: Outcome, other: Outcome) -> str:
    if one.refusal or other.refusal:
        return f"{one.refusal or 'read'} where the slow way gives {other.refusal or 'rows'}"
    found, wanted = one.tables(), other.tables()
    rows = [
        f"{table} {name}: {found[table].column(name).to_pylist()} instead of {wanted[table].column(name).to_pylist()}"
        for table in wanted.keys() & found.keys()
        for name in wanted[table].column_names
        if not found[table].column(name).equals(wanted[table].column(name))
    ]
    answers = [
        f"answers of {table}: {one.answers(table)} instead of {other.answers(table)}"
        for table in wanted.keys() & found.keys() - {"failures"}
        if one.answers(table) != other.answers(table)
    ]
    return "\n".join([*rows, *answers]) or f"{one.told} instead of {other.told}, or the bytes of {sorted(other.files)}"


def _untruth(run: OddRun, found: Outcome) -> str | None:
    """What rows or answers say otherwise than the source."""
    level = run.schema if run.lines["videos"] else None
    typed = tables_of(Prompt("prm", "x", "x", run.schema, level))
    for table, rows in found.tables().items():
        key = "video_id" if table == "videos" else "segment_id"
        said = {one[key]: one for one in plain_reading.results(run.text(table))}
        documents = [one for batch in rows.to_batches() for one in typed[table].documents(batch)]
        if sorted(said) != sorted(one[key] for one in documents):
            return f"{table}: {len(documents)} rows of {len(said)} results"
        for document in documents:
            wanted, told = plain_reading.row_of(said[document[key]], table), plain_reading.row(document)
            if told != wanted:
                return f"{table}, {document[key]} {_differing(told, wanted)}"
        if table == "failures":
            continue
        for document, text in zip(documents, found.answers(table), strict=True):
            wanted = plain_reading.answer(said[document[key]]["metadata"])
            told = plain_reading.answer(plain_reading.decoded(text))
            if told != wanted:
                return f"{table}, {document[key]}, answer {text}: {_differing(told, wanted)}"
    return None


def _differing(told: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> str:
    places = [place for place in told.keys() | wanted.keys() if told.get(place, ...) != wanted.get(place, ...)]
    return "; ".join(f"{place} is {told.get(place)}, and in the source {wanted.get(place)}" for place in places)


def smallest(run: OddRun, differs: Callable[[OddRun], bool]) -> OddRun:
    """The run without lines that play no part."""
    for table in run.lines:
        size = len(run.lines[table])
        while size:
            size = (size + 1) // 2 if size > 1 else 0
            start = 0
            while size and start < len(lines := run.lines[table]):
                fewer = replace(run, lines={**run.lines, table: lines[:start] + lines[start + size :]})
                if differs(fewer):
                    run = fewer
                else:
                    start += size
            if size == 1:
                break
    return run


def assert_read_alike(run: OddRun) -> Outcome:
    """Returns what the slow way gives."""
    why, slow = difference(run)
    if why is not None:
        one = smallest(run, lambda fewer: difference(fewer)[0] is not None)
        pytest.fail(f"{difference(one)[0]}\n{one}", pytrace=False)
    return slow


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_hostile_line_among_good_ones_is_read_alike(schema):
    good = [json.dumps(result(number)).encode() for number in (1, 9)]
    full = [json.dumps(result(number, rate=2.5, tags=[], opt={"n": 1})).encode() for number in (1, 9)]
    read = 0
    for hostile in HOSTILE.values():
        text = hostile if isinstance(hostile, bytes) else hostile.encode()
        for before, after in (good, full, (b"", b"")):
            run = OddRun(SCHEMAS[schema], {"segments": [before, text, after], "videos": [], "failures": []})
            read += assert_read_alike(replace(run, sizes=Sizes(block=300)) if before in good else run).refusal is None
    assert len(HOSTILE) == 110
    assert read > len(HOSTILE)


SEEN: Counter[str] = Counter()
SEEN_SCHEMAS: set[str] = set()


def odd_run(seed: int) -> OddRun:
    random = Random(seed)
    odd = random.choice([0, 2, 10, 100])
    schema = OddSchemas(random).root()
    lines_of = OddLines(random, odd)
    lines = {
        "segments": [lines_of.result("segments", number, schema) for number in range(random.randrange(60, 100))],
        "videos": [lines_of.result("videos", number, schema) for number in range(random.choice([0, 20, 40]))],
        "failures": [lines_of.result("failures", number) for number in range(random.choice([0, 10, 20]))],
    }
    table = random.choice([table for table in lines if lines[table]])
    one = random.randrange(len(lines[table]))
    match random.choice(["", "", "", "", "", "unreadable", "spliced", "turned", "twice"]):
        case "unreadable":
            lines[table][one] = lines_of.unreadable(lines[table][one])
        case "spliced":
            lines[table][one] = lines_of.spliced(lines[table][one])
        case "turned":
            lines[table][one:] = reversed(lines[table][one:])
        case "twice":
            lines[table].append(lines[table][one])
    return OddRun(
        schema,
        lines,
        random.choice([Sizes(), Sizes(), Sizes(300, 7, 2), Sizes(2_048, 50, 2, names=3)]),
        bom=random.randrange(7) == 0,
        compressed=random.randrange(7) == 0,
    )


@pytest.mark.slow
class TestGenerated:
    # A seed has nothing to shrink: the lines of its run have.
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**64))
    def test_any_run_is_read_alike(self, seed):
        run = odd_run(seed)
        found = assert_read_alike(run)
        SEEN["documents"] += sum(map(len, run.lines.values()))
        SEEN["read"] += found.refusal is None
        SEEN_SCHEMAS.add(json.dumps(run.schema))

    def test_they_were_many(self):
        assert SEEN["documents"] >= 20_000 * EXAMPLES // 220
        assert len(SEEN_SCHEMAS) >= 200 * EXAMPLES // 220
        assert SEEN["read"] > len(SEEN_SCHEMAS) // 2, "most runs must be ones that can be read"
