"""Backfills in the Dagster daemon, like those from the UI."""

import time
from collections.abc import Iterator, Sequence

import dagster as dg

from vv_exports.defs.dagster_internals import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
    make_new_backfill_id,
)
from vv_exports.defs.run_tags import route_of
from vv_exports.errors import RequestError, RunFailedError

_DAEMON = "BACKFILL"
_ALIVE_SECONDS = 300
_GOOD = {BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS}


def check_daemon(instance: dg.DagsterInstance) -> None:
    """Raise RequestError where no daemon works off backfills of this instance."""
    heartbeat = instance.get_daemon_heartbeats().get(_DAEMON)
    if heartbeat is None or heartbeat.timestamp < time.time() - _ALIVE_SECONDS:
        raise RequestError(
            f"no Dagster daemon works on this instance ({instance.root_directory}): start it (`make ui`), or leave "
            "out --in-daemon"
        )


def submit(
    instance: dg.DagsterInstance, definitions: dg.Definitions, asset: dg.AssetKey, partitions: Sequence[str], title: str
) -> str:
    """Ask the daemon for these partitions of an asset. Returns the backfill's id."""
    graph = definitions.get_repository_def().asset_graph
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=make_new_backfill_id(),
        asset_graph=graph,
        partition_names=list(partitions),
        asset_selection=[asset],
        backfill_timestamp=time.time(),
        tags=route_of(graph, [asset]),
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=title,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def under_way(instance: dg.DagsterInstance, asset: dg.AssetKey) -> list[str]:
    """Ids of the backfills of an asset that are not over."""
    unfinished = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    found = instance.get_backfills(BulkActionsFilter(statuses=unfinished))
    return [one.backfill_id for one in found if asset in (one.asset_selection or ())]


def has_succeeded(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    """Whether all Dagster runs that a backfill has had so far have succeeded: the daemon, which closes it, looks at it
    every 30 seconds."""
    runs = instance.get_runs(dg.RunsFilter.for_backfill(backfill_id))
    return bool(runs) and all(run.status == dg.DagsterRunStatus.SUCCESS for run in runs)


def follow(instance: dg.DagsterInstance, backfill_id: str, poll_seconds: float = 1.0) -> Iterator[None]:
    """Yield until a backfill is over. Raises RunFailedError where it failed or was cancelled."""
    while True:
        backfill = instance.get_backfill(backfill_id)
        if backfill is None:
            raise RunFailedError(f"backfill {backfill_id} vanished from its Dagster instance")
        if backfill.status in BULK_ACTION_TERMINAL_STATUSES:
            break
        yield
        time.sleep(poll_seconds)
    if backfill.status not in _GOOD:
        error = f": {backfill.error.message.strip()}" if backfill.error is not None else ""
        raise RunFailedError(
            f"backfill {backfill_id} is {backfill.status.value}{error}. Its runs are in the Dagster UI; the same "
            "command again goes on with what is left."
        )
