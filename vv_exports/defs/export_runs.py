"""Exports on demand as Dagster runs: the tags that make a run findable in the UI, and what a run tells of its exports.

A launch makes one export, or one for each of its partitions; a retry makes the same ones. What became of them is in
their records. Dagster is asked about attempts of which no record says how they ended.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import error_of, launched_here, message_of
from vv_exports.defs.processes import is_gone, is_of_another, this_process
from vv_exports.defs.run_tags import hidden, run_with_hidden_tags, shown
from vv_exports.domain.exports import ExportRequest, ExportStatus, export_id_of
from vv_exports.errors import VVExportsError
from vv_exports.exports.idempotency import request_hash
from vv_exports.exports.on_demand import Exports
from vv_exports.exports.records import Attempt, Record

_ASSETS = {"index": "index_export", "prompt_run": "prompt_run_export"}
_LAUNCHERS = {"dagster/backfill": "backfill", "dagster/schedule_name": "schedule", "dagster/sensor_name": "sensor"}
_OVER = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trace:
    """What can be told of an attempt that its record leaves open. ``over`` is why it ended. Where it is None and not
    ``under_way``, nobody here knows: it was made on another machine, with another Dagster instance."""

    over: str | None
    under_way: bool


def export_asset(index_id: str, export_type: str) -> dg.AssetKey:
    """The asset that makes exports of a type."""
    return asset_key(index_id, _ASSETS[export_type])


def root_run_id(run: dg.DagsterRun) -> str:
    """The first run of a chain of retries."""
    return run.tags.get("dagster/root_run_id", run.run_id)


def export_tags(root: str, request: ExportRequest, targets: Sequence[str]) -> dict[str, str]:
    """Tags of a run that exports ``targets`` (an index, or prompt runs) as a request says."""
    # The one target is what people filter runs by in the UI; several are told apart by their ids.
    several = None if len(targets) == 1 else json.dumps(list(targets))
    return {
        **shown(
            {
                "export_id": export_id_of(root),
                "target_id": targets[0] if several is None else None,
                "connector": request.destination_connector_id,
            }
        ),
        **hidden(
            {
                "export_type": request.export_type,
                "index_id": request.index_id,
                "subpath": request.destination_subpath,
                "target_ids": several,
            }
        ),
    }


def key_tags(idempotency_key: str, request: ExportRequest) -> dict[str, str]:
    """Tags of a run that was launched with an idempotency key. The key itself stays with its owner."""
    return hidden(_key(idempotency_key, request))


def _key(idempotency_key: str, request: ExportRequest) -> dict[str, str]:
    return {
        "idempotency_key": hashlib.sha256(idempotency_key.encode()).hexdigest(),
        "request": request_hash(request),
    }


def launch_with_key(instance: dg.DagsterInstance, idempotency_key: str, request: ExportRequest) -> str | None:
    """The first run that was launched with a key and the same request, as far as Dagster remembers."""
    run = run_with_hidden_tags(instance, _key(idempotency_key, request))
    return None if run is None else root_run_id(run)


def attempt_now(dagster_run_id: str, launched_by: str = "client") -> Attempt:
    """An attempt that this process makes."""
    return Attempt(
        dagster_run_id=dagster_run_id, began_at=datetime.now(UTC), launched_by=launched_by, process=this_process()
    )


def begin_exports(context: dg.AssetExecutionContext, exports: Exports, requests: Mapping[str, ExportRequest]) -> None:
    """Note that a run makes exports, by their ids, wherever it was launched."""
    run, root = context.run, root_run_id(context.run)
    launchers = (f"{what} {run.tags[tag]}" for tag, what in _LAUNCHERS.items() if tag in run.tags)
    attempt = attempt_now(run.run_id, "client" if launched_here(run) else next(launchers, "dagster"))
    first = context.instance.get_run_record_by_id(root) or context.instance.get_run_record_by_id(run.run_id)
    created_at = attempt.began_at if first is None else datetime.fromtimestamp(first.create_timestamp.timestamp(), UTC)
    for export_id, request in requests.items():
        record = Record(
            export_id=export_id,
            launch=root,
            request=request,
            prompt_run_ids=request.prompt_run_ids,
            created_at=created_at,
            status=ExportStatus.PROCESSING,
            attempts=(attempt,),
        )
        exports.processing(record, attempt)


@contextmanager
def failures_recorded(exports: Exports, run_id: str, export_ids: Collection[str]) -> Iterator[None]:
    """Around ``step_failures``: where a step ends for good, the records of its exports say why."""
    try:
        yield
    except dg.RetryRequested:
        raise
    except BaseException as error:
        for export_id in export_ids:
            try:
                exports.failed(export_id, run_id, message_of(error))
            except VVExportsError as problem:  # the run says it too, and is asked about records that are open
                _LOG.warning("the record of export %s does not say that it failed: %s", export_id, problem)
        raise


def trace(instance: dg.DagsterInstance | None, attempt: Attempt) -> Trace:
    """What became of an attempt, as far as its Dagster run and its process tell. There may be no instance yet."""
    run = instance.get_run_by_id(attempt.dagster_run_id) if instance is not None else None
    if instance is None or run is None:
        gone = is_gone(attempt.process)
        over = f"the process that made it ({attempt.process}) is gone" if gone else None
        return Trace(over, under_way=not gone and is_of_another(attempt.process))
    if run.status in _OVER:
        return Trace(error_of(instance, run.run_id) or "the run did not finish", under_way=False)
    if run.status == dg.DagsterRunStatus.SUCCESS:
        over = (
            f"its Dagster run {run.run_id} succeeded, and `storage` does not say so: a backup from before it was "
            "restored. The same request with the same idempotency key makes it again."
        )
        return Trace(over, under_way=False)
    return Trace(None, under_way=True)
