"""``many_rows.py FORMAT BYTES``: writes and reads rows of so many bytes, says by how many bytes the process grew.

A process of its own: the peak of a process never goes down again.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from vv_exports.formats.base import Format
from vv_exports_tests.formats.tables import EVERY_FORMAT, as_taken
from vv_exports_tests.memory import peak_bytes

BATCH_ROWS = 1_000


def batch() -> pa.RecordBatch:
    """Rows of about 1.5 kB, all different: dictionaries must not do the format's work."""
    return pa.RecordBatch.from_pylist(
        [
            {
                "id": n,
                "at": datetime(2026, 1, 1, tzinfo=UTC),
                "text": f'line {n} "quoted"\r\n' * 40,
                "objects": [{"label": f"{n} {k}", "score": n / 7 + k} for k in range(20)],
            }
            for n in range(BATCH_ROWS)
        ]
    )


def write(fmt: Format, path: Path, rows: pa.RecordBatch, times: int) -> None:
    with fmt.open(path, rows.schema) as writer:
        for _ in range(times):
            writer.write(rows)


def main(name: str, size: int) -> None:
    fmt, page = EVERY_FORMAT[name], batch()
    page = page.set_column(1, "at", page.column("at").cast(pa.timestamp("us", "UTC")))
    (page,) = as_taken(fmt, pa.Table.from_batches([page])).to_batches()
    times = size // page.nbytes
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        start = peak_bytes()
        write(fmt, path, page, times)
        written = peak_bytes()
        count = sum(part.num_rows for part in fmt.read(path, page.schema))
        assert count == times * BATCH_ROWS, count
        done = {
            "values": page.nbytes * times,
            "writing": written - start,
            "reading": peak_bytes() - start,
        }
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
