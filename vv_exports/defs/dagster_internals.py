"""What this package uses of Dagster beyond its public interface. Nothing else imports ``dagster._…`` or reaches into an
object of Dagster's.

Each thing has a canary in ``vv_exports_tests/defs/test_dagster_internals.py``, which says what to look at when another
version of Dagster changes it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterRunAlreadyExists
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, JobFailureData
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.utils import make_new_backfill_id, make_new_run_id
from dagster_shared.check import CheckError

__all__ = [
    "BULK_ACTION_TERMINAL_STATUSES",
    "GRPC_INFO_TAG",
    "IMPLICIT_ASSET_JOB_NAME",
    "STARTED_PROCESS",
    "BaseAssetGraph",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CheckError",
    "CheckRunHealthResult",
    "DagsterRunAlreadyExists",
    "DefaultRunLauncher",
    "InstanceRef",
    "InstigatorState",
    "InstigatorStatus",
    "InstigatorType",
    "JobFailureData",
    "PartitionBackfill",
    "SensorInstigatorData",
    "SqliteHistory",
    "SqliteRunStorage",
    "StepExecutionContext",
    "SubmitRunContext",
    "WorkerStatus",
    "add_partition_metadata",
    "enum_or_shape",
    "last_evaluation",
    "log_check",
    "log_materializations",
    "make_new_backfill_id",
    "make_new_run_id",
    "partition_keys",
    "step_of",
]

STARTED_PROCESS = re.compile(r"Started process for run \(pid: (\d+)\)")
"""What the code server logs at a run when its process begins; nothing else tells the pid."""

_OF_PARTITIONS = {dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION}
_KEYS_AT_A_TIME = 10_000
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def partition_keys(instance: dg.DagsterInstance, name: str) -> Iterator[str]:
    """The keys of dynamic partitions, in the order in which they were added.

    All at once, Dagster has several times their size in memory: with 100,000 of them that is 20 MiB more.
    """
    cursor = None
    while True:
        page = instance.get_paginated_dynamic_partitions(name, limit=_KEYS_AT_A_TIME, ascending=True, cursor=cursor)
        yield from page.results
        if not page.has_more:
            return
        cursor = page.cursor


def step_of(context: dg.AssetExecutionContext | dg.OutputContext) -> StepExecutionContext:
    """The step that an asset, or its IO manager, is part of."""
    if isinstance(context, dg.OutputContext):
        return context.step_context
    return context.op_execution_context.get_step_execution_context()


def enum_or_shape(choice: dg.Enum, fields: Mapping[str, dg.Field]) -> dg.ScalarUnion:
    """A configuration type that takes one of a closed choice, or a mapping. Dagster's own takes any text, or a mapping,
    though it checks the text like any value of a configuration."""
    union = dg.ScalarUnion(str, dict(fields), _key=f"{choice.given_name}OrOptions")
    union.scalar_type = choice
    union.type_params = [choice, union.non_scalar_type]
    return union


def add_partition_metadata(
    step: StepExecutionContext, key: dg.AssetKey, metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """Metadata of an asset's partitions, by partition key, for the materializations that the step's output becomes.

    What ``add_asset_metadata`` does, without its look at all partitions of the asset for each of these: with 10,000
    of them that takes 36 ms a partition.
    """
    for partition, values in metadata.items():
        step._metadata_accumulator = step._metadata_accumulator.with_additional_asset_metadata(  # noqa: SLF001
            asset_key=key, metadata=values, partition_key=partition
        )


def log_check(step: StepExecutionContext, evaluation: dg.AssetCheckEvaluation) -> None:
    """Say at once what a check came to, in a step that has not ended, and that need not be the one of its asset."""
    DagsterEvent.asset_check_evaluation(step, evaluation)


def last_evaluation(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> bool | None:
    """Whether a check passed when it was evaluated the last time; None where it never was."""
    storage = instance.event_log_storage
    records = storage.get_asset_check_execution_history(key, limit=1, status=_EVALUATED)
    return records[0].status == AssetCheckExecutionRecordStatus.SUCCEEDED if records else None


def log_materializations(step: StepExecutionContext, materializations: Iterable[dg.AssetMaterialization]) -> None:
    """Say at once that partitions are materialized, in a step that has not ended. They are one batch of events; where
    the next one cannot be had, those before it are said all the same."""
    batch, waiting = str(uuid4()), None

    def say(one: dg.AssetMaterialization, *, is_last: bool) -> None:
        DagsterEvent.asset_materialization(step, one, DagsterEventBatchMetadata(batch, is_last))

    try:
        for one in materializations:
            if waiting is not None:
                say(waiting, is_last=False)
            waiting = one
    finally:
        if waiting is not None:
            say(waiting, is_last=True)


class _SqliteEvents(SqliteEventLogStorage):
    """Dagster's event log in SQLite, where the events of partitions in a batch share their transactions: one in the
    database of the run, one in that of all assets. Dagster's own makes three for each event, and opens both databases
    anew for it."""

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events of one run, as single ones would be. Where this fails, Dagster stores them one by one."""
        together = [event for event in events if event.dagster_event_type in _OF_PARTITIONS]
        if together:
            self._store_together(together)
        for event in events:
            if event.dagster_event_type not in _OF_PARTITIONS:
                self.store_event(event)

    def _store_together(self, events: Sequence[dg.EventLogEntry]) -> None:
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert()
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(insert, rows)
        with self.index_transaction() as connection:
            ids = [connection.execute(insert, row).lastrowid for row in rows]
            self._store_asset_event_tags(connection, events, ids)
            # Of each asset, what it shows is what it was told last.
            last = {row["asset_key"]: number for number, row in enumerate(rows)}
            for number in last.values():
                self._store_asset_event(connection, events[number], ids[number])


class SqliteHistory(DagsterSqliteStorage):
    """Dagster's storage in SQLite, with that event log: the same files, and the same in them."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = _SqliteEvents(f"{base_dir}/history/runs/")

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        """As ``dagster.yaml`` names it."""
        return cls.from_local(inst_data=inst_data, **config_value)
