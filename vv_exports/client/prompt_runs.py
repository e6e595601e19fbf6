"""Prompt runs through the client: what there is, and snapshots of what is new or changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from vv_exports.client.deployment import Deployment, naming_unreadable, tells_of_the_instance
from vv_exports.defs.keys import asset_key
from vv_exports.defs.partitions import known_run_ids, partitions_name, sync_partitions
from vv_exports.domain.names import partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.snapshots.store import Snapshot


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
        partitions = known_run_ids(self._deployment.instance_if_made, index_id)
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

    def sync(self, index_id: str) -> Sync:
        """Discover runs, and take snapshots of those that are new or changed.

        Raises UnreadableRunsError at the end where the record of some cannot be read.
        """
        client, pipeline, snapshots = self._deployment, self._deployment.pipeline, self._deployment.pipeline.snapshots
        listing = pipeline.indexes.listing(index_id)
        runs = listing.runs
        new = sync_partitions(client.instance, index_id, runs)
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
