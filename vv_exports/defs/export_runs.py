"""Exports on demand as Dagster runs: the tags that make a run findable, and the exports that a run tells of.

A launch makes one export, or one for each of its partitions; a retry makes the same ones. It writes and reads what
Dagster keeps and knows nothing of destinations.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg

from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import error_of
from vv_exports.domain.exports import Export, ExportRequest, ExportStatus, export_id_of, export_ids, launch_id_of
from vv_exports.pipeline import request_hash

_PREFIX = "vv_exports/"
_ASSETS = {"index": "index_export", "prompt_run": "prompt_run_export"}
_PAGE = 1000
_STATUS = {
    dg.DagsterRunStatus.SUCCESS: ExportStatus.COMPLETED,
    dg.DagsterRunStatus.FAILURE: ExportStatus.FAILED,
    dg.DagsterRunStatus.CANCELED: ExportStatus.FAILED,
    dg.DagsterRunStatus.STARTED: ExportStatus.PROCESSING,
    dg.DagsterRunStatus.CANCELING: ExportStatus.PROCESSING,
}

Told = Mapping[tuple[str, str], Mapping[str, Any]]
"""What materializations say, by Dagster run id and export id."""


def export_asset(index_id: str, export_type: str) -> dg.AssetKey:
    """The asset that makes exports of a type."""
    return asset_key(index_id, _ASSETS[export_type])


def root_run_id(run: dg.DagsterRun) -> str:
    """The first run of a chain of retries."""
    return run.tags.get("dagster/root_run_id", run.run_id)


def export_tags(root: str, request: ExportRequest, targets: Sequence[str]) -> dict[str, str]:
    """Tags of a run that exports ``targets`` (an index, or prompt runs) as a request says."""
    tags = {
        "export": "true",
        "export_id": export_id_of(root),
        "export_type": request.export_type,
        "index_id": request.index_id,
        "connector_id": request.destination_connector_id,
        "subpath": request.destination_subpath,
        # Several are told apart by their ids; the one is what people filter runs by in the UI.
        **({"target_id": targets[0]} if len(targets) == 1 else {"target_ids": json.dumps(list(targets))}),
    }
    return {_PREFIX + name: value for name, value in tags.items() if value is not None}


def key_tags(idempotency_key: str, request: ExportRequest) -> dict[str, str]:
    """Tags of a run that was launched with an idempotency key. The key itself stays with its owner."""
    return {
        f"{_PREFIX}idempotency_key": hashlib.sha256(idempotency_key.encode()).hexdigest(),
        f"{_PREFIX}request": request_hash(request),
    }


def launch_with_key(instance: dg.DagsterInstance, idempotency_key: str, request: ExportRequest) -> str | None:
    """The first run that was launched with a key and the same request, as far as Dagster remembers."""
    records = instance.get_run_records(dg.RunsFilter(tags=key_tags(idempotency_key, request)), limit=1)
    return root_run_id(records[0].dagster_run) if records else None


def newest_run(instance: dg.DagsterInstance, export_id: str) -> dg.RunRecord | None:
    """The latest run that made, or tried to make, an export."""
    filters = dg.RunsFilter(tags={f"{_PREFIX}export_id": launch_id_of(export_id)})
    return next(iter(instance.get_run_records(filters, limit=1)), None)


def newest_runs(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """The latest run of every launch, newest first."""
    newest: dict[str, dg.RunRecord] = {}
    for record in instance.get_run_records(dg.RunsFilter(tags={f"{_PREFIX}export": "true"})):
        newest.setdefault(record.dagster_run.tags[f"{_PREFIX}export_id"], record)
    return list(newest.values())


def exports_of(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> Iterator[Export]:
    """The exports of some runs. The runs' own logs are read for one run; of many, those of their assets: in SQLite
    every run's log is a file."""
    told = _told_by_run(instance, records[0]) if len(records) == 1 else _told_by_assets(instance, records)
    for record in records:
        yield from _exports(instance, record, told)


def _exports(instance: dg.DagsterInstance, record: dg.RunRecord, told: Told) -> Iterator[Export]:
    run = record.dagster_run
    tags = {name.removeprefix(_PREFIX): value for name, value in run.tags.items() if name.startswith(_PREFIX)}
    targets = json.loads(tags["target_ids"]) if "target_ids" in tags else [tags["target_id"]]
    status = _STATUS.get(run.status, ExportStatus.PENDING)
    failed = status == ExportStatus.FAILED
    error_message = (error_of(instance, run.run_id) or "the run did not finish") if failed else None
    destination_type: Literal["download", "connector"] = "connector" if "connector_id" in tags else "download"
    for target_id, export_id in export_ids(tags["export_id"], targets).items():
        metadata = told.get((run.run_id, export_id), {})
        yield Export(
            export_id=export_id,
            export_type=tags["export_type"],
            index_id=tags["index_id"],
            target_id=target_id,
            status=status,
            destination_type=destination_type,
            destination_connector_id=tags.get("connector_id"),
            destination_subpath=tags.get("subpath"),
            destination_uri=metadata.get("destination_uri"),
            rows=metadata.get("rows"),
            files=metadata.get("files"),
            bytes=metadata.get("bytes"),
            delivery_id=metadata.get("delivery_id"),
            dagster_run_id=run.run_id,
            error_message=error_message,
            created_at=_text_time(record.create_timestamp.timestamp()),
            completed_at=_text_time(record.end_time),
        )


def _told_by_run(instance: dg.DagsterInstance, record: dg.RunRecord) -> Told:
    run_id = record.dagster_run.run_id
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    return _told(record.event_log_entry for record in records)


def _told_by_assets(instance: dg.DagsterInstance, records: Iterable[dg.RunRecord]) -> Told:
    tags = [record.dagster_run.tags for record in records]
    assets = {export_asset(one[f"{_PREFIX}index_id"], one[f"{_PREFIX}export_type"]) for one in tags}
    told: dict[tuple[str, str], Mapping[str, Any]] = {}
    for asset in assets:
        cursor, more = None, True
        while more:
            page = instance.fetch_materializations(asset, limit=_PAGE, cursor=cursor)
            told |= _told(record.event_log_entry for record in page.records)
            cursor, more = page.cursor, page.has_more
    return told


def _told(entries: Iterable[dg.EventLogEntry]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Snapshots that a run took on the way are materializations too, and have no export id."""
    told: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in entries:
        metadata = entry.asset_materialization.metadata if entry.asset_materialization is not None else {}
        if "export_id" in metadata:
            values = {name: value.value for name, value in metadata.items()}
            told[entry.run_id, str(values["export_id"])] = values
    return told


def _text_time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
