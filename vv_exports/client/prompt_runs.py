"""Prompt runs through the client: what there is, and snapshots of what is new or changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from vv_exports.client.deployment import Deployment, naming_unreadable, tells_of_the_instance
from vv_exports.defs.keys import asset_key
from vv_exports.defs.partitions import known_run_ids, partitions_name, sync_partitions
from vv_exports.defs.upstream_deletions import show_gone
from vv_exports.delivery.planned import stated_rows
from vv_exports.domain.names import partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.tables import TABLES
from vv_exports.snapshots.store import Snapshot
from vv_exports.sources.base import Effort


@dataclass(frozen=True)
class Sync:
    """What a discovery found: new partitions, and snapshots that were taken, by prompt run id."""

    index_id: str
    prompt_runs: int
    finished: int
    new_partitions: tuple[str, ...]
    snapshots_taken: tuple[str, ...]
    dagster_run_ids: tuple[str, ...]


@dataclass(frozen=True)
class PlannedSnapshot:
    """A snapshot that would be taken: rows as the run's own counters state them, and what reading it takes."""

    run_id: str
    status: str
    executed_at: str
    rows: int | None
    effort: Effort


@dataclass(frozen=True)
class SyncPlan:
    """What a discovery would find and read. ``source`` is what reading takes in all; ``problems`` says, by run id, why
    a run's record cannot be read."""

    index_id: str
    prompt_runs: int
    finished: int
    new_partitions: tuple[str, ...]
    snapshots: tuple[PlannedSnapshot, ...]
    source: Effort
    problems: dict[str, str]


@dataclass(frozen=True)
class ListedRun:
    """A prompt run as the source has it, and the pipeline's snapshot of it. ``run`` is None where its record cannot be
    read; ``problem`` says why."""

    run_id: str
    run: PromptRun | None
    snapshot: Snapshot | None
    problem: str | None = None


@dataclass(frozen=True)
class Prune:
    """What a prune removed, or would: prompt runs that the source has no more. Deliveries are never touched."""

    index_id: str
    prompt_runs: tuple[str, ...]
    files: int


@tells_of_the_instance
class PromptRuns:
    """The prompt runs of an index."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self, index_id: str) -> Sequence[ListedRun]:
        """All runs, in the order (executed_at, run_id); last those whose record cannot be read."""
        pipeline = self._deployment.pipeline
        listing = pipeline.indexes.listing(index_id)
        there = [
            ListedRun(run.run_id, run, pipeline.snapshots.store.current(index_id, run.run_id)) for run in listing.runs
        ]
        broken = sorted(listing.problems.items())
        return there + [
            ListedRun(run_id, None, pipeline.snapshots.store.current(index_id, run_id), str(error))
            for run_id, error in broken
        ]

    def prune(self, index_id: str, *, dry_run: bool = False) -> Prune:
        """Forget the prompt runs that are gone from the source: their partitions and the pipeline's snapshots of them.

        What was delivered stays, at the destination and in its log.
        """
        pipeline, snapshots = self._deployment.pipeline, self._deployment.pipeline.snapshots
        there = pipeline.indexes.listing(index_id).run_ids  # first: a wrong index opens no database
        instance = self._deployment.instance_to_look_at if dry_run else self._deployment.instance_if_made
        partitions = known_run_ids(instance, index_id)
        gone = sorted((partitions | snapshots.catalogs.read(index_id).runs.keys()) - there)
        if dry_run:
            return Prune(index_id, tuple(gone), sum(snapshots.store.count_files(index_id, run_id) for run_id in gone))
        files = sum(snapshots.store.forget(index_id, run_id) for run_id in gone)
        if gone:
            snapshots.catalogs.forget(index_id, gone)
        for run_id in gone:
            if run_id in partitions:
                self._deployment.instance.delete_dynamic_partition(partitions_name(index_id), partition_key(run_id))
        return Prune(index_id, tuple(gone), files)

    def plan_sync(self, index_id: str) -> SyncPlan:
        """What ``sync`` would find and read. Writes nothing, and reads no results."""
        deployment = self._deployment
        listing = deployment.pipeline.indexes.listing(index_id)
        instance, source = deployment.instance_to_look_at, deployment.pipeline.source
        known = known_run_ids(instance, index_id)
        planned = tuple(
            PlannedSnapshot(
                run.run_id,
                str(run.status),
                run.executed_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
                stated_rows(run, TABLES),
                source.effort(run),
            )
            for run in listing.runs
            if run.deliverable and deployment.pipeline.snapshots.without_reading(run) is None
        )
        return SyncPlan(
            index_id=index_id,
            prompt_runs=len(listing.runs),
            finished=sum(run.deliverable for run in listing.runs),
            new_partitions=tuple(run.run_id for run in listing.runs if run.deliverable and run.run_id not in known),
            snapshots=planned,
            source=sum((one.effort for one in planned), Effort()),
            problems={run_id: str(error) for run_id, error in listing.problems.items()},
        )

    def sync(self, index_id: str) -> Sync:
        """Discover runs, and take snapshots of those that are new or changed.

        Raises UnreadableRunsError at the end where the record of some cannot be read.
        """
        client, pipeline, snapshots = self._deployment, self._deployment.pipeline, self._deployment.pipeline.snapshots
        listing = pipeline.indexes.listing(index_id)
        runs = listing.runs
        new = sync_partitions(client.instance, index_id, runs)
        show_gone(pipeline, client.instance, index_id, listing)
        key = asset_key(index_id, "prompt_runs")
        materialized = client.instance.get_materialized_partitions(key)
        wanted = [
            run.run_id
            for run in runs
            if run.deliverable
            and (
                snapshots.store.unchanged(pipeline.source, run) is None or partition_key(run.run_id) not in materialized
            )
        ]
        with naming_unreadable("read", len(runs), listing.problems):
            launched = client.launch_stretches(index_id, [wanted], key)
        finished = sum(run.deliverable for run in runs)
        return Sync(index_id, len(runs), finished, tuple(new), tuple(wanted), tuple(launched))
