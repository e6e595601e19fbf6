"""``bounds.py CASE``: takes a snapshot of a run of unusual shape, reads it, says by how many bytes the process grew.

A process of its own: the peak of a process never goes down again.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import SourceDataError
from vv_exports.snapshots.run_faults import faults_of_run
from vv_exports.snapshots.store import SnapshotStore
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.memory import peak_bytes

MEGABYTE = 1_000_000
TEXT = {"type": "string"}


def nested(levels: int, leaf: str, before: str, after: str) -> str:
    """JSON text, made without recursion."""
    return before * levels + leaf + after * levels


def properties(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"property_{n:04}": TEXT for n in range(count)}}


CASES: dict[str, Callable[[], tuple[Any, str, int]]] = {
    # schema, the text of an answer, rows
    "plain": lambda: (properties(1), compact({"property_0000": "x" * 100}), 5_000),
    "a value of 200 MB": lambda: (properties(1), compact({"property_0000": "0123456789" * (20 * MEGABYTE)}), 1),
    "200 MB of small values": lambda: (
        {"type": "object", "properties": {"numbers": {"type": "array", "items": {"type": "integer"}}}},
        '{"numbers":[' + "123456789," * (20 * MEGABYTE) + "1]}",
        1,
    ),
    "2,000 properties": lambda: (
        properties(2_000),
        compact({f"property_{n:04}": f"{n} it is" for n in range(2_000)}),
        5_000,
    ),
    "60 levels": lambda: (
        json.loads(nested(60, '{"type":"string"}', '{"type":"object","properties":{"inner":', "}}")),
        nested(60, '"leaf"', '{"inner":', "}"),
        5_000,
    ),
    "an undeclared value 500 deep": lambda: (properties(2), nested(500, "1", '{"inner":', "}"), 2_000),
    "a value too deep": lambda: (properties(2), nested(100_000, "1", '{"inner":', "}"), 1),
}


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def lines(answer: str, rows: int) -> Iterator[str]:
    around = json.dumps(segment(0, metadata="ANSWER", segment_id="SEGMENT", start_time="START", metadata_text=""))
    before, after = around.split('"ANSWER"')
    for number in range(rows):
        own = before.replace("SEGMENT", f"seg_{number:06}").replace('"START"', str(number))
        yield f"{own}{answer}{after}\n"


def main(case: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows = write(folder / "archive", *CASES[case]())
        source = LocalArchive(str(folder / "archive"), max_record_bytes=256 << 20, max_document_bytes=256 << 20)
        store = SnapshotStore(LocalConnector("storage", folder / "storage", make_root=True))
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        start = peak_bytes()
        try:
            with faults_of_run("idx", "run_1"):
                snapshot = store.take(source, source.prompt_run("idx", "run_1"), datetime(2026, 11, 1, tzinfo=UTC))
        except SourceDataError as error:
            json.dump({"refused": str(error), "grown": peak_bytes() - start}, sys.stdout)
            return
        read, seen = 0, set()
        for batch, answers in store.rows(snapshot, "segments", answers=True):
            read += batch.num_rows
            seen |= {hashlib.sha256(memoryview(text.as_buffer())).hexdigest() for text in answers or ()}
        json.dump({"rows": [rows, read], "answers": sorted(seen), "grown": peak_bytes() - start}, sys.stdout)


def write(archive: Path, schema: Any, answer: str, rows: int) -> int:
    run = write_run(archive, segments=0, schema=schema, completed_segments=rows)
    with (run / "segment_results.jsonl").open("w") as file:
        file.writelines(lines(answer, rows))
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
