"""The log of a Delta table, as its protocol has it: numbered commits, each a file of JSON lines, put if absent.

https://github.com/delta-io/delta/blob/master/PROTOCOL.md says what the actions mean. These are tables of the protocol's
first versions, which every reader knows: no deletion vectors, no column mapping, no partition columns. What is written
follows from the delivery log alone, and from no clock, so that a commit which is made once more has the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from vv_exports.domain.destinations import DELTA_LOG
from vv_exports.table_formats.base import Added, Change, Head

APP = "vv_exports"
"""The application of the transactions, whose version is the entry of the delivery log."""
ENTRY = "vv_exports.entry"
"""What a commit says of the entry, for people who look at a table's history."""
LAST_CHECKPOINT = f"{DELTA_LOG}/_last_checkpoint"
PROTOCOL: Mapping[str, Any] = {"minReaderVersion": 1, "minWriterVersion": 2}

Action = Mapping[str, Any]


def commit_name(version: int) -> str:
    """Where a version's commit is, relative to the table."""
    return f"{DELTA_LOG}/{version:020d}.json"


def checkpoint_name(version: int) -> str:
    """Where the checkpoint of a version is, relative to the table."""
    return f"{DELTA_LOG}/{version:020d}.checkpoint.parquet"


def commit_actions(name: str, change: Change, head: Head, schema: str | None) -> Iterator[Action]:
    """The actions that bring a table to ``head``. ``schema`` is None where it stays as it is."""
    moment = milliseconds(change.committed_at)
    is_new = head.version == 0
    yield {
        "commitInfo": {
            "timestamp": moment,
            "operation": "CREATE TABLE AS SELECT" if is_new else "WRITE",
            "operationParameters": {"mode": "Overwrite" if change.removed else "Append"},
            "engineInfo": APP,
            ENTRY: change.entry,
        }
    }
    if is_new:
        yield {"protocol": PROTOCOL}
    if schema is not None:
        yield {"metaData": metadata(name, head, schema)}
    yield {"txn": transaction(head)}
    for path in change.removed:
        yield {
            "remove": {
                "path": _encoded(name, path),
                "deletionTimestamp": moment,
                "dataChange": True,
                "extendedFileMetadata": False,
            }
        }
    for one in change.added:
        yield {"add": add(name, one)}


def metadata(name: str, head: Head, schema: str) -> Action:
    """What a table says of itself."""
    return {
        "id": head.table_id,
        "name": name.partition("/")[0],
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": [],
        "configuration": {},
        "createdTime": head.created_ms,
    }


def transaction(head: Head) -> Action:
    """Which entry of the delivery log a version shows."""
    return {"appId": APP, "version": head.entry}


def add(name: str, one: Added) -> Action:
    """A file. Of its columns the statistics tell the prompt run, by which readers skip files: no value of a result
    stands in a table's log, where an erasure would have to find it."""
    file = one.file
    stats: dict[str, Any] = {"numRecords": file.rows}
    if file.rows:
        run = {"prompt_run_id": file.prompt_run_id}
        stats |= {"minValues": run, "maxValues": run, "nullCount": {"prompt_run_id": 0}}
    return {
        "path": _encoded(name, file.path),
        "partitionValues": {},
        "size": file.bytes,
        "modificationTime": milliseconds(one.committed_at),
        "dataChange": True,
        "stats": msgspec.json.encode(stats).decode(),
    }


def encoded(actions: Iterable[Action]) -> bytes:
    """A commit's file."""
    return b"".join(msgspec.json.encode(one) + b"\n" for one in actions)


def path_of(name: str, encoded_path: str) -> str:
    """The path in the collection of a file that an action names."""
    return f"{name}/{unquote(encoded_path)}"


def milliseconds(moment: datetime) -> int:
    """Since 1970, as Delta counts time."""
    return int(moment.timestamp() * 1000)


def _encoded(name: str, path: str) -> str:
    """A path as actions name it: a URI relative to the table."""
    return quote(path.removeprefix(f"{name}/"), safe="/=")
