"""The Python surface, with the names that VideoVector users know.

Every export and every delivery is a Dagster run in the instance that the UI shows. It runs in the calling process:
``create_*`` return when the export is over, completed or failed, and ``wait_for_completion`` then returns at once.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from vv_exports.config import Config, load_config
from vv_exports.defs.assets import PARTITIONS_PER_RUN, destination_config, export_tags
from vv_exports.defs.build import build_definitions
from vv_exports.defs.keys import asset_key
from vv_exports.defs.launches import close_abandoned, error_of, launch, new_run_id, open_instance
from vv_exports.defs.partitions import stretches, sync_partitions
from vv_exports.domain.exports import Export, ExportRequest, ExportStatus, export_id_of
from vv_exports.domain.names import dagster_name, partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import NotFoundError, RequestError, RunFailedError
from vv_exports.pipeline import Pipeline, Progress
from vv_exports.snapshots.store import Snapshot

_STATUS = {
    dg.DagsterRunStatus.SUCCESS: ExportStatus.COMPLETED,
    dg.DagsterRunStatus.FAILURE: ExportStatus.FAILED,
    dg.DagsterRunStatus.CANCELED: ExportStatus.FAILED,
    dg.DagsterRunStatus.STARTED: ExportStatus.PROCESSING,
    dg.DagsterRunStatus.CANCELING: ExportStatus.PROCESSING,
}
_OVER = {ExportStatus.COMPLETED, ExportStatus.FAILED}


@dataclass(frozen=True)
class Download:
    """A downloaded artifact. ``written`` is False where the file was there already with the same content."""

    export_id: str
    path: Path
    bytes: int
    written: bool


@dataclass(frozen=True)
class AutomationState:
    """An automation and what its collection holds. Counts are of prompt runs: ``waiting`` are finished and not
    delivered, ``held`` wait until they are complete or somebody names them."""

    index_id: str
    automation: str
    enabled: bool
    paused: bool
    destination_connector_id: str
    destination_subpath: str
    destination_uri: str
    format: str
    delivered: int
    waiting: int
    held: int
    last_delivery_at: str | None


@dataclass(frozen=True)
class AutomationRun:
    """What one run of an automation did. ``delivered`` and ``already_delivered`` are prompt run ids; rows, files and
    bytes are of what was newly delivered."""

    index_id: str
    automation: str
    destination_uri: str
    delivered: tuple[str, ...]
    already_delivered: tuple[str, ...]
    rows: int
    files: int
    bytes: int
    dagster_run_ids: tuple[str, ...]


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
    """A prompt run as the source has it, and the pipeline's snapshot of it."""

    run: PromptRun
    snapshot: Snapshot | None


class VVExports:
    """Exports of one deployment: the same configuration and Dagster instance as the command line."""

    def __init__(
        self,
        config: Config | Path | None = None,
        *,
        instance: dg.DagsterInstance | None = None,
        progress: Progress | None = None,
    ) -> None:
        loaded = config if isinstance(config, Config) else load_config(config)
        self.pipeline = Pipeline.from_config(loaded, progress)
        self._given_instance = instance
        self.exports = Exports(self)
        self.automations = Automations(self)
        self.prompt_runs = PromptRuns(self)

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance, opened when first needed."""
        instance = self._given_instance or open_instance(os.environ, Path.cwd())
        close_abandoned(instance)
        return instance

    @cached_property
    def definitions(self) -> dg.Definitions:
        """The same definitions as the code location's."""
        return build_definitions(self.pipeline)

    def launch_stretches(self, index_id: str, run_ids: Sequence[str], assets: Sequence[dg.AssetKey]) -> list[str]:
        """Materialize partitions of assets, many to a Dagster run. Returns the runs' ids; raises RunFailedError."""
        launched = []
        for first, last in stretches(self.instance, index_id, run_ids, PARTITIONS_PER_RUN):
            run = launch(self.instance, self.definitions, assets, partitions=(first, last))
            launched.append(run.run_id)
            if run.status != dg.DagsterRunStatus.SUCCESS:
                message = error_of(self.instance, run.run_id) or f"it is {run.status.value}"
                raise RunFailedError(f"{message} (Dagster run {run.run_id})")
        return launched


class PromptRuns:
    """The prompt runs of an index."""

    def __init__(self, client: VVExports) -> None:
        self._client = client

    def list(self, index_id: str) -> Sequence[ListedRun]:
        """All runs, in the order (executed_at, run_id)."""
        pipeline = self._client.pipeline
        return [ListedRun(run, pipeline.store.current(index_id, run.run_id)) for run in pipeline.prompt_runs(index_id)]

    def sync(self, index_id: str) -> Sync:
        """Discover runs, and take snapshots of those that are new or changed."""
        client, pipeline = self._client, self._client.pipeline
        runs = pipeline.prompt_runs(index_id)
        new = sync_partitions(client.instance, index_id, runs)
        key = asset_key(index_id, "prompt_runs")
        materialized = client.instance.get_materialized_partitions(key)
        wanted = [
            run.run_id
            for run in runs
            if run.deliverable
            and (
                pipeline.store.unchanged(pipeline.source, run) is None or partition_key(run.run_id) not in materialized
            )
        ]
        launched = client.launch_stretches(index_id, wanted, [key])
        finished = sum(run.deliverable for run in runs)
        return Sync(index_id, len(runs), finished, tuple(new), tuple(wanted), tuple(launched))


class Exports:
    """Exports on demand."""

    def __init__(self, client: VVExports) -> None:
        self._client = client

    def create_index_export(
        self,
        index_id: str,
        prompt_run_ids: Sequence[str] | None = None,
        destination_connector_id: str | None = None,
        destination_subpath: str | None = None,
        *,
        format: str = "parquet",  # noqa: A002 - the configuration's word
        idempotency_key: str | None = None,
    ) -> Export:
        """Export an index: all finished prompt runs, or those named. Without a connector it becomes a download.

        Raises RequestError before anything is written. The same ``idempotency_key`` and request give the earlier
        export; the same key with another request raises IdempotencyError.
        """
        run_ids = None if prompt_run_ids is None else tuple(prompt_run_ids)
        request = ExportRequest("index", index_id, run_ids, destination_connector_id, destination_subpath, format)
        return self.create(request, idempotency_key=idempotency_key)

    def create_prompt_run_export(
        self,
        run_id: str,
        destination_connector_id: str | None = None,
        destination_subpath: str | None = None,
        *,
        index_id: str | None = None,
        format: str = "parquet",  # noqa: A002 - the configuration's word
        idempotency_key: str | None = None,
    ) -> Export:
        """Export one prompt run. ``index_id`` is needed only where two configured indexes have a run of this id."""
        index = index_id or self._index_of(run_id)
        request = ExportRequest("prompt_run", index, (run_id,), destination_connector_id, destination_subpath, format)
        return self.create(request, idempotency_key=idempotency_key)

    def create(self, request: ExportRequest, *, idempotency_key: str | None = None) -> Export:
        """What both ``create_*`` come to."""
        client = self._client
        runs = client.pipeline.check_export(request)
        root = new_run_id()
        if idempotency_key is not None:
            root = client.pipeline.remembered_launch(idempotency_key, request, root)
        earlier = client.instance.get_runs(dg.RunsFilter(tags={"vv_exports/export_id": export_id_of(root)}), limit=1)
        if earlier and _STATUS.get(earlier[0].status) != ExportStatus.FAILED:
            return self._export(earlier[0])
        sync_partitions(client.instance, request.index_id, client.pipeline.prompt_runs(request.index_id))
        return self._export(self._launch(request, runs, root, retry=bool(earlier)))

    def check(self, request: ExportRequest) -> Sequence[PromptRun]:
        """The runs that a request is about, without doing anything. Raises RequestError."""
        return self._client.pipeline.check_export(request)

    def retrieve(self, export_id: str) -> Export:
        """One export as it stands. Raises NotFoundError."""
        runs = self._client.instance.get_runs(dg.RunsFilter(tags={"vv_exports/export_id": export_id}), limit=1)
        if not runs:
            raise NotFoundError(
                f"export {export_id!r} does not exist in this Dagster instance; `vv-exports exports list` lists those "
                "that do"
            )
        return self._export(runs[0])

    def list(self, limit: int | None = None) -> Sequence[Export]:
        """All exports, newest first, those launched from the UI included."""
        newest: dict[str, dg.DagsterRun] = {}
        for run in self._client.instance.get_runs(dg.RunsFilter(tags={"vv_exports/export": "true"})):
            newest.setdefault(run.tags["vv_exports/export_id"], run)
        return [self._export(run) for run in islice(newest.values(), limit)]

    def wait_for_completion(
        self, export_id: str, *, timeout: float | None = None, poll_interval: float = 1.0
    ) -> Export:
        """Wait until an export is over and return it. Raises RunFailedError where it failed, TimeoutError after
        ``timeout`` seconds (0 looks once; None waits for ever)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (export := self.retrieve(export_id)).status not in _OVER:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"export {export_id} is still {export.status} after {timeout} s")
            time.sleep(poll_interval)
        if export.status == ExportStatus.FAILED:
            raise RunFailedError(f"export {export_id} failed: {export.error_message}")
        return export

    def download(self, export_id: str, to: Path | str | None = None) -> Download:
        """Copy the artifact of a completed download export to a file, or into a folder. Never a partial file."""
        export = self.retrieve(export_id)
        if export.destination_type != "download":
            raise RequestError(
                f"export {export_id!r} was delivered to {export.destination_uri}; it has no artifact to download"
            )
        if export.status != ExportStatus.COMPLETED:
            raise RequestError(f"export {export_id!r} is {export.status}; only a completed one can be downloaded")
        path = Path(to) if to is not None else Path.cwd()
        if path.is_dir() or str(to).endswith(os.sep):
            path.mkdir(parents=True, exist_ok=True)
            path = path / f"{export_id}.zip"
        written = self._client.pipeline.download(export_id, path)
        return Download(export_id, path, path.stat().st_size, written)

    def _launch(self, request: ExportRequest, runs: Sequence[PromptRun], root: str, *, retry: bool) -> dg.DagsterRun:
        client = self._client
        asset = "index_export" if request.export_type == "index" else "prompt_run_export"
        config: dict[str, Any] = dict(destination_config(request))
        if request.export_type == "index" and request.prompt_run_ids is not None:
            config["prompt_run_ids"] = list(request.prompt_run_ids)
        key = partition_key(runs[0].run_id)
        tags = export_tags(export_id_of(root), request)
        if retry:
            tags |= {"dagster/root_run_id": root, "dagster/parent_run_id": root}
        return launch(
            client.instance,
            client.definitions,
            [asset_key(request.index_id, asset)],
            run_id=None if retry else root,
            partitions=(key, key) if request.export_type == "prompt_run" else None,
            config={f"{dagster_name(request.index_id)}__{asset}": config},
            tags=tags,
        )

    def _index_of(self, run_id: str) -> str:
        pipeline = self._client.pipeline
        found = [
            index_id
            for index_id in pipeline.config.indexes
            if any(run.run_id == run_id for run in pipeline.prompt_runs(index_id))
        ]
        if len(found) != 1:
            reason = (
                f"is in the indexes {', '.join(found)}; say which with index_id"
                if found
                else "does not exist in any configured index"
            )
            raise NotFoundError(f"prompt run {run_id!r} {reason}")
        return found[0]

    def _export(self, run: dg.DagsterRun) -> Export:
        instance = self._client.instance
        tags = run.tags
        export_id = tags["vv_exports/export_id"]
        status = _STATUS.get(run.status, ExportStatus.PENDING)
        metadata = _materialization_metadata(instance, run.run_id)
        connector_id = tags.get("vv_exports/connector_id")
        record = instance.get_run_record_by_id(run.run_id)
        return Export(
            export_id=export_id,
            export_type=tags["vv_exports/export_type"],
            index_id=tags["vv_exports/index_id"],
            target_id=tags["vv_exports/target_id"],
            status=status,
            destination_type="download" if connector_id is None else "connector",
            destination_connector_id=connector_id,
            destination_subpath=tags.get("vv_exports/subpath"),
            destination_uri=metadata.get("destination_uri"),
            rows=metadata.get("rows"),
            files=metadata.get("files"),
            bytes=metadata.get("bytes"),
            delivery_id=metadata.get("delivery_id"),
            dagster_run_id=run.run_id,
            error_message=(error_of(instance, run.run_id) or "the run did not finish")
            if status == ExportStatus.FAILED
            else None,
            created_at=_text_time(record.create_timestamp.timestamp() if record else None),
            completed_at=_text_time(record.end_time if record else None),
        )


class Automations:
    """Export automations."""

    def __init__(self, client: VVExports) -> None:
        self._client = client

    def list(self) -> Sequence[AutomationState]:
        """All automations of the configuration."""
        return [self.retrieve(index_id, name) for index_id, name, _ in self._client.pipeline.automations()]

    def retrieve(self, index_id: str, automation: str) -> AutomationState:
        """One automation and what its collection holds. Raises NotFoundError."""
        pipeline = self._client.pipeline
        config = pipeline.config.automation(index_id, automation)
        state = pipeline.collection(index_id, automation)
        eligible = pipeline.eligible(index_id, automation)
        finished = [run for run in pipeline.prompt_runs(index_id) if run.deliverable and run.status in config.on_status]
        waiting = [run for run in eligible if not pipeline.up_to_date(run, config, state)]
        return AutomationState(
            index_id=index_id,
            automation=automation,
            enabled=config.enabled,
            paused=config.paused,
            destination_connector_id=config.destination_connector_id,
            destination_subpath=config.subpath,
            destination_uri=pipeline.connectors[config.destination_connector_id].uri(config.subpath),
            format=config.format,
            delivered=len(state.runs),
            waiting=len(waiting),
            held=len([run for run in finished if run.run_id not in {r.run_id for r in eligible} | set(state.runs)]),
            last_delivery_at=state.entries[-1].committed_at if state.entries else None,
        )

    def run(self, index_id: str, automation: str, run_ids: Sequence[str] | None = None) -> AutomationRun:
        """Deliver now what the collection lacks: of all finished runs, or of those named, held ones included.

        A paused automation runs, since this is asked for; a disabled one raises SelectionError.
        """
        client, pipeline = self._client, self._client.pipeline
        config = pipeline.config.automation(index_id, automation)
        pipeline.check_enabled(index_id, automation)
        runs = pipeline.eligible(index_id, automation, run_ids)
        before = pipeline.collection(index_id, automation)
        unfinished = pipeline.unfinished(index_id, automation, runs, before)
        key = asset_key(index_id, "exports", automation)
        sync_partitions(client.instance, index_id, pipeline.prompt_runs(index_id))
        materialized = client.instance.get_materialized_partitions(key)
        wanted = [
            run.run_id
            for run in runs
            if not pipeline.up_to_date(run, config, before)
            or run.run_id in unfinished
            or partition_key(run.run_id) not in materialized
        ]
        launched = client.launch_stretches(index_id, wanted, [asset_key(index_id, "prompt_runs"), key])
        entries = pipeline.collection(index_id, automation).entries[len(before.entries) :]
        mine = {run.run_id for run in runs}
        delivered = [run.run_id for entry in entries for run in entry.prompt_runs if run.run_id in mine]
        files = [file for entry in entries for file in entry.files if file.prompt_run_id in mine]
        return AutomationRun(
            index_id=index_id,
            automation=automation,
            destination_uri=pipeline.connectors[config.destination_connector_id].uri(config.subpath),
            delivered=tuple(delivered),
            already_delivered=tuple(run.run_id for run in runs if run.run_id not in delivered),
            rows=sum(file.rows for file in files),
            files=len(files),
            bytes=sum(file.bytes for file in files),
            dagster_run_ids=tuple(launched),
        )


def _materialization_metadata(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """Metadata of the export that a run materialized; snapshots that it took on the way have none of these keys."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    for record in records:
        materialization = record.event_log_entry.asset_materialization
        if materialization is not None and "delivery_id" in materialization.metadata:
            return {name: value.value for name, value in materialization.metadata.items()}
    return {}


def _text_time(seconds: float | None) -> str | None:
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
