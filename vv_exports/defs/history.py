"""Dagster's history, with the events of a batch written together.

A Dagster run of a hundred partitions has two or three hundred events of the same kind. Dagster hands them to its
storage one by one where nobody says otherwise, and in SQLite each takes 10 ms of CPU: of a backfill that was more than
half.
"""

import os
from pathlib import Path
from typing import Any

from vv_exports.defs.dagster_internals import SqliteHistory

_BATCH = "DAGSTER_EVENT_BATCH_SIZE"
_EVENTS = 100
"""As many as an asset has partitions in a run, unless somebody wants larger ones. They are held in memory meanwhile, of
about 12 kB each, and a process that is killed has not told of them; its run is told again when it is tried again."""


def write_in_batches() -> None:
    """Have Dagster hand over the events of partitions in batches, in this process, unless the environment says how."""
    os.environ.setdefault(_BATCH, str(_EVENTS))


class History(SqliteHistory):
    """Named in ``dagster.yaml``, as ``storage``, so that every process of Dagster writes in batches."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        write_in_batches()


def history_in(folder: Path) -> dict[str, Any]:
    """What ``storage`` of a ``dagster.yaml`` says of one that is kept in a folder."""
    return {"custom": {"module": __name__, "class": History.__name__, "config": {"base_dir": str(folder)}}}
