"""``bounds.py FORMAT CASE``: writes and reads rows of an unusual shape, says by how many bytes the process grew.

A process of its own: the peak of a process never goes down again.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from vv_exports.content.encoding import encoding_of
from vv_exports.formats.registry import format_of
from vv_exports.snapshots.tables import Table, table_of
from vv_exports_tests.content.documents import RUN, answers_of, options
from vv_exports_tests.memory import peak_bytes

MEBIBYTE = 1 << 20
TEXT = {"type": "string"}


def deep(levels: int, leaf: Any, around: Any) -> Any:
    return leaf if levels == 0 else around(deep(levels - 1, leaf, around))


CASES: dict[str, tuple[Any, Any, int, int]] = {
    # 2,000 properties, 5,000 rows
    "wide": (
        {"type": "object", "properties": {f"property_{n}": TEXT for n in range(2_000)}},
        {f"property_{n}": f"{n} is a value" for n in range(2_000)},
        100,
        50,
    ),
    # one value of 64 MiB in a row, which has a neighbour
    "long": ({"type": "object", "properties": {"text": TEXT}}, {"text": "0123456789abcdef" * (4 * MEBIBYTE)}, 1, 2),
    # as many levels as there are columns for
    "deep": (
        deep(31, TEXT, lambda inner: {"type": "object", "properties": {"inner": inner, "n": {"type": "integer"}}}),
        deep(31, "leaf", lambda inner: {"inner": inner, "n": 1}),
        1_000,
        20,
    ),
}


def batches(table: Table, answer: Any, rows: int, times: int) -> Iterator[tuple[pa.RecordBatch, pa.StringArray]]:
    page = [{"metadata": answer}] * rows
    made = table.batch(page, RUN), answers_of(page)
    return iter([made] * times)


def main(name: str, case: str) -> None:
    schema, answer, rows, times = CASES[case]
    table, chosen = table_of("segments", schema), options(name)
    encoding, form = encoding_of(chosen.format, table), format_of(chosen)
    given = batches(table, answer, rows, times)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        start = peak_bytes()
        with form.open(path, encoding.schema) as writer:
            for batch, answers in given:
                writer.write(encoding.rows(batch, answers))
        written = peak_bytes()
        count = sum(batch.num_rows for batch in form.read(path, encoding.schema))
        assert count == rows * times, count
    json.dump({"writing": written - start, "reading": peak_bytes() - start}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
