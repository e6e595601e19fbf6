"""Exports on demand through the client: made, found again, waited for, downloaded."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.assets import destination_config
from vv_exports.defs.export_runs import (
    export_asset,
    export_tags,
    exports_of,
    key_tags,
    launch_with_key,
    newest_run,
    newest_runs,
)
from vv_exports.defs.launches import launch, new_run_id
from vv_exports.defs.lost_runs import close_abandoned
from vv_exports.defs.partitions import sync_partitions
from vv_exports.domain.exports import Export, ExportRequest, ExportStatus, export_id_of
from vv_exports.domain.names import dagster_name, partition_key
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.errors import IdempotencyError, NotFoundError, RequestError, RunFailedError

_OVER = {ExportStatus.COMPLETED, ExportStatus.FAILED}


@dataclass(frozen=True)
class Download:
    """A downloaded artifact. ``written`` is False where the file was there already with the same content."""

    export_id: str
    path: Path
    bytes: int
    written: bool


@tells_of_the_instance
class Exports:
    """Exports on demand."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

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
        pipeline = self._deployment.pipeline
        runs = pipeline.check_export(request)  # first: a wrong request leaves nothing behind, no database either
        root = new_run_id()
        if idempotency_key is not None:
            if not idempotency_key.strip():
                raise IdempotencyError("an idempotency key may not be blank")
            # The storage knows the key. Where a backup of it was restored that does not, Dagster may know it still.
            root = launch_with_key(self._deployment.instance, idempotency_key, request) or root
            root = pipeline.remembered_launch(idempotency_key, request, root)
        earlier = self._find(export_id_of(root))
        if earlier is None or earlier.status == ExportStatus.FAILED or self._has_lost_its_download(earlier):
            sync_partitions(self._deployment.instance, request.index_id, pipeline.listing(request.index_id).runs)
            self._launch(request, runs, root, idempotency_key, retry=earlier is not None)
        return self._over(self.retrieve(export_id_of(root)))

    def check(self, request: ExportRequest) -> Sequence[PromptRun]:
        """The runs that a request is about, without doing anything. Raises RequestError."""
        return self._deployment.pipeline.check_export(request)

    def retrieve(self, export_id: str) -> Export:
        """One export as it stands. Raises NotFoundError."""
        export = self._find(export_id)
        if export is None:
            raise NotFoundError(
                f"export {export_id!r} does not exist in this Dagster instance; `vv-exports exports list` lists those "
                "that do"
            )
        return export

    def list(self, limit: int | None = None) -> Sequence[Export]:
        """All exports, newest first, those launched from the UI included."""
        instance = self._deployment.instance_if_made
        return [] if instance is None else list(islice(exports_of(instance, newest_runs(instance)), limit))

    def wait_for_completion(
        self, export_id: str, *, timeout: float | None = None, poll_interval: float = 1.0
    ) -> Export:
        """Wait until an export is over and return it. Raises RunFailedError where it failed, TimeoutError after
        ``timeout`` seconds (0 looks once; None waits for ever)."""
        export = self._over(self.retrieve(export_id), timeout=timeout, poll_interval=poll_interval)
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
        written = self._deployment.pipeline.download(export_id, path)
        return Download(export_id, path, path.stat().st_size, written)

    def _over(self, export: Export, *, timeout: float | None = None, poll_interval: float = 1.0) -> Export:
        """An export once it is completed or failed. Another process may be at it, and may die."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while export.status not in _OVER:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"export {export.export_id} is still {export.status} after {timeout} s")
            left = poll_interval if deadline is None else deadline - time.monotonic()
            time.sleep(max(0, min(poll_interval, left)))
            close_abandoned(self._deployment.instance, self._deployment.pipeline.clock())
            export = self.retrieve(export.export_id)
        return export

    def _find(self, export_id: str) -> Export | None:
        instance = self._deployment.instance_if_made
        record = None if instance is None else newest_run(instance, export_id)
        made = () if instance is None or record is None else exports_of(instance, [record])
        return next((export for export in made if export.export_id == export_id), None)

    def _has_lost_its_download(self, export: Export) -> bool:
        """A backup of the storage was restored that is older than the download."""
        is_one = export.destination_type == "download" and export.status == ExportStatus.COMPLETED
        return is_one and not self._deployment.pipeline.has_download(export.export_id)

    def _launch(
        self, request: ExportRequest, runs: Sequence[PromptRun], root: str, idempotency_key: str | None, *, retry: bool
    ) -> None:
        deployment = self._deployment
        asset = export_asset(request.index_id, request.export_type)
        config: dict[str, Any] = dict(destination_config(request))
        if request.export_type == "index" and request.prompt_run_ids is not None:
            config["prompt_run_ids"] = list(request.prompt_run_ids)
        key = partition_key(runs[0].run_id)
        tags = export_tags(root, request, [request.target_id])
        if idempotency_key is not None:
            tags |= key_tags(idempotency_key, request)
        if retry:
            tags |= {"dagster/root_run_id": root, "dagster/parent_run_id": root}
        launch(
            deployment.instance,
            deployment.definitions,
            [asset],
            run_id=None if retry else root,
            partitions=(key, key) if request.export_type == "prompt_run" else None,
            config={f"{dagster_name(request.index_id)}__{asset.path[-1]}": config},
            tags=tags,
        )

    def _index_of(self, run_id: str) -> str:
        pipeline = self._deployment.pipeline
        found = [index_id for index_id in pipeline.config.indexes if run_id in pipeline.listing(index_id).run_ids]
        if len(found) != 1:
            reason = (
                f"is in the indexes {', '.join(found)}; say which with index_id"
                if found
                else "does not exist in any configured index"
            )
            raise NotFoundError(f"prompt run {run_id!r} {reason}")
        return found[0]
