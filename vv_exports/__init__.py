"""The export pipeline for VideoVector prompt runs, on Dagster.

The data flow, which is also the folder list::

    sources/     where prompt runs are read                      (local archive)
    snapshots/   the pipeline's copy of one prompt run: typed tables, hashes, change detection
    content/     what is delivered of a snapshot: columns, fields, redaction, rows as each format has them
    formats/     tables -> files                                 (parquet, jsonl, csv, json, webvtt, markers)
    delivery/    files -> destination, all or nothing            (log, ownership, verify, vacuum)
    connectors/  storage behind a destination                    (local, s3, gcs, azure)
    automations/ what is due at a destination, and what is remembered of it

    domain/      nouns and rules, no I/O
    config/      what this deployment exports, and where
    pipeline.py  the flow above, wired for one configuration; knows nothing of Dagster
    defs/        everything Dagster; definitions.py is what Dagster loads
    library/     what another Dagster project takes of it: definitions, a component
    client/      the Python surface
    cli/         the command line, a module for each group of commands; console.py is how it speaks
    demo/        a demo archive to try it on
    errors.py    the exception tree

Importing this package reads no environment variable and opens no file.
"""

import sys
from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_OF_THE_LIBRARY = {
    "IndexExports": "vv_exports.library.component",
    "build_definitions": "vv_exports.library.definitions",
}
"""What a Dagster project imports of here. Only then: Dagster takes a second to import."""

if sys.platform == "win32":
    # Here, before any module imports what Windows lacks: whichever way the package is started, it is one line.
    sys.stderr.write(
        "vv_exports does not run on Windows: it needs the file locks and hard links of POSIX. WSL is supported.\n"
    )
    raise SystemExit(2)


def __getattr__(name: str) -> Any:
    if name in _OF_THE_LIBRARY:
        return getattr(import_module(_OF_THE_LIBRARY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """With what is imported when it is asked for: Dagster looks here for components."""
    return sorted({*globals(), *_OF_THE_LIBRARY})
