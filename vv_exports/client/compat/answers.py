"""What this deployment answers to the requests that the SDK makes about exports, and that programs make by hand about
the export automation of an index, for which the SDK has no methods. Paths, fields and words are the API's.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import videovector

from vv_exports.client import VVExports
from vv_exports.client.automations import AutomationState
from vv_exports.client.compat.document import Document
from vv_exports.client.compat.errors import as_the_sdk_raises, invalid
from vv_exports.domain.exports import Export, ExportStatus
from vv_exports.errors import DeliveredDataError, NotFoundError, SelectionError

_DESTINATION = ("destination_connector_id", "destination_subpath")
_AUTOMATION = ("enabled", "paused", *_DESTINATION)
_NEW_AUTOMATION = "export"
"""The name of one that a request creates: the API has none."""
_FORMAT = "json"
"""The platform exports JSON alone."""
_LIMIT = 50
_QUEUE = {
    ExportStatus.PENDING: "queued",
    ExportStatus.PROCESSING: "running",
    ExportStatus.COMPLETED: "succeeded",
    ExportStatus.FAILED: "dead_letter",
}
_CREATED = ("/exports/index/", "/exports/prompt-run/")
_DOWNLOAD = re.compile(r"/exports/(.*)/download", re.DOTALL)

Request = Mapping[str, Any]
"""``params``, ``json`` and ``idempotency_key``, as the SDK's HTTP client takes them."""
Answer = Callable[[Request], Any]


class Answers:
    """Those of one deployment. Usable from several threads."""

    def __init__(self, client: VVExports) -> None:
        self._client = client
        # The first that matches: an index may be called download-url.
        self._routes: Sequence[tuple[str, re.Pattern[str], Callable[..., Any]]] = [
            ("POST", re.compile(r"/exports/index/(.*)", re.DOTALL), self._create_index_export),
            ("POST", re.compile(r"/exports/prompt-run/(.*)", re.DOTALL), self._create_prompt_run_export),
            ("POST", re.compile(r"/exports/(.*)/download-url", re.DOTALL), self._download_url),
            ("GET", re.compile(r"/exports"), self._list),
            ("GET", re.compile(r"/exports/(.*)", re.DOTALL), self._retrieve),
            ("GET", re.compile(r"/indexes/(.*)/automations/export", re.DOTALL), self._automation),
            ("PUT", re.compile(r"/indexes/(.*)/automations/export", re.DOTALL), self._put_automation),
            ("POST", re.compile(r"/indexes/(.*)/automations/export/(pause|resume)", re.DOTALL), self._switch),
        ]

    def close(self) -> None:
        """Close what the deployment has open."""
        self._client.close()

    def find(self, method: str, path: str) -> Answer | None:
        """What answers a request; None where it is none of this deployment's. An answer raises the SDK's errors.
        Raises ValidationError for what is about exports and has no answer: the platform's are others."""
        path = f"/{path.lstrip('/')}"
        for of_method, pattern, answer in self._routes:
            if of_method == method and (match := pattern.fullmatch(path)):
                return _told(answer, match.groups())
        if re.match(r"/exports\b", path):
            raise invalid(
                f"{method} {path} is not known to this deployment. What can be chosen goes in params or json."
            )
        return None

    def makes_an_export(self, path: str) -> bool:
        """Whether an export is made where something is posted there, which takes its time."""
        return path.startswith(_CREATED)

    def downloaded(self, path: str) -> str | None:
        """The export whose bytes are asked for; None where those of something else are."""
        match = _DOWNLOAD.fullmatch(path)
        return match[1] if match else None

    def download(self, export_id: str, *, chunk_size: int, max_bytes: int) -> Generator[bytes]:
        """The bytes of a completed download, in chunks. Nobody takes the artifact away meanwhile."""
        for name, value in (("chunk_size", chunk_size), ("max_bytes", max_bytes)):
            if value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        with as_the_sdk_raises():
            export = self._export(export_id)
            if export.destination_type == "download" and export.artifact != "available":
                state = "its artifact was deleted" if export.artifact else f"it is {export.status}"
                raise videovector.ConflictError(
                    f"export {export_id!r} cannot be downloaded: {state}. Only a completed export can be, as long as "
                    "its artifact is kept; the same request with the same idempotency key makes it again.",
                    status_code=409,
                    error_code="export_not_downloadable",
                )
            with self._client.pipeline.exports.reading(export_id) as artifact:
                document = Document(artifact, export)
                if document.bytes > max_bytes:
                    raise videovector.VideoVectorError(
                        f"the download of export {export_id!r} has {document.bytes} bytes, which exceeds the limit of "
                        f"max_bytes={max_bytes}; give a greater one, or export to a connector",
                        error_code="download_size_limit_exceeded",
                        details={"content_length": document.bytes, "max_bytes": max_bytes},
                    )
                yield from document.chunks(chunk_size)

    # Exports

    def _create_index_export(self, request: Request, index_id: str) -> dict[str, Any]:
        body = _body(request, "prompt_run_ids", "result_scope", *_DESTINATION)
        run_ids = body.get("prompt_run_ids")
        if run_ids is not None and not (
            isinstance(run_ids, list | tuple) and all(isinstance(one, str) for one in run_ids)
        ):
            raise invalid(f"prompt_run_ids is {run_ids!r}; it must be a list of ids, or left out for all")
        self._client.pipeline.config.index(index_id)
        self._check_connector(body)
        try:
            export = self._client.exports.create_index_export(
                index_id,
                run_ids,
                *(body.get(name) for name in _DESTINATION),
                format=_FORMAT,
                idempotency_key=request.get("idempotency_key"),
            )
        except NotFoundError as error:
            if run_ids is None:
                raise
            raise SelectionError(str(error)) from error  # 404 is said of what the path names
        return _created(export)

    def _create_prompt_run_export(self, request: Request, run_id: str) -> dict[str, Any]:
        body = _body(request, "result_scope", *_DESTINATION)
        self._check_connector(body)
        export = self._client.exports.create_prompt_run_export(
            run_id,
            *(body.get(name) for name in _DESTINATION),
            format=_FORMAT,
            idempotency_key=request.get("idempotency_key"),
        )
        return _created(export)

    def _check_connector(self, body: Mapping[str, Any]) -> None:
        if (connector_id := body.get("destination_connector_id")) is not None:
            self._client.pipeline.connectors.for_export(connector_id)

    def _retrieve(self, _: Request, export_id: str) -> dict[str, Any]:
        return self._as_there(self._export(export_id))

    def _list(self, request: Request) -> list[dict[str, Any]]:
        limit = (request.get("params") or {}).get("limit", _LIMIT)
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise invalid(f"limit is {limit!r}; it must be a number")
        found = self._client.exports.list(limit=limit)
        with ThreadPoolExecutor(self._client.pipeline.storage.uploads_at_once) as pool:  # each may be a look at a store
            return list(pool.map(self._as_there, found))

    def _download_url(self, _: Request, export_id: str) -> dict[str, Any]:
        export = self._export(export_id)
        if export.artifact == "available":
            raise videovector.ValidationError(
                f"export {export_id!r} has no download URL: it was made by this deployment, which has no web server to "
                "hand it to whoever has a link. `client.exports.download` and `iter_download` give the file; for "
                "others, export to a connector, and sign links with the means of its store.",
                status_code=422,
                error_code="download_url_not_supported",
            )
        return {
            "export_id": export.export_id,
            "status": export.status.value,
            "destination_type": export.destination_type,
            "destination_connector_id": export.destination_connector_id,
            "download_url": None,
        }

    def _export(self, export_id: str) -> Export:
        """By its whole id: the beginning of one names nothing at the API."""
        found = None
        with suppress(NotFoundError):
            found = self._client.exports.retrieve(export_id)
        if found is None or found.export_id != export_id:
            raise NotFoundError(f"export {export_id!r} does not exist; `client.exports.list()` lists those that do")
        return found

    def _as_there(self, export: Export) -> dict[str, Any]:
        """An export with all fields of the API."""
        size = self._size(export)
        goes_to = {
            "destination_connector_id": export.destination_connector_id,
            "destination_base_path": self._base_path(export.destination_connector_id),
            "destination_subpath": export.destination_subpath,
        }
        is_index = export.export_type == "index"
        chosen = (
            {"prompt_run_ids": None if export.all_prompt_runs else _list_of(export.prompt_run_ids)} if is_index else {}
        )
        address = f"/api/v2/exports/{quote(export.export_id, safe='')}/download"
        attempts = len(export.dagster_run_ids)
        return {
            "export_id": export.export_id,
            "user_id": None,
            "export_type": export.export_type,
            "target_id": export.target_id,
            "status": export.status.value,
            "created_at": export.created_at,
            "gcs_uri": export.destination_uri,
            "download_url": address if export.artifact == "available" and size is not None else None,
            "file_size_bytes": size,
            "error_message": export.error_message,
            "export_params": {**chosen, "result_scope": "all", **goes_to},
            "queue_status": _QUEUE[export.status],
            "attempts": attempts,
            "max_attempts": max(1, attempts),
            "available_at": export.created_at,
            "started_at": export.started_at,
            "completed_at": export.completed_at,
            "updated_at": export.completed_at or export.started_at,
            "last_error": export.error_message,
            "destination_type": export.destination_type,
            **goes_to,
            "destination_uri": export.destination_uri if export.destination_type == "connector" else None,
        }

    def _size(self, export: Export) -> int | None:
        """What was delivered, or what a download would have; None where there is nothing."""
        if export.destination_type == "connector":
            return export.bytes
        if export.artifact != "available":
            return None
        if export.format != _FORMAT:
            return export.bytes
        # It is gone where a backup without it was restored, or it is deleted just now: then it is not available.
        with (
            suppress(DeliveredDataError),
            self._client.pipeline.exports.glimpse(export.export_id) as artifact,
        ):
            return Document(artifact, export).bytes
        return None

    def _base_path(self, connector_id: str | None) -> str | None:
        connector = self._client.pipeline.config.connectors.get(connector_id or "")
        return connector.export_base_path or None if connector is not None else None

    # The export automation of an index

    def _automation(self, _: Request, index_id: str) -> dict[str, Any]:
        return _automation_as_there(self._client.automations.retrieve(index_id, self._name(index_id)))

    def _switch(self, _: Request, index_id: str, switch: str) -> dict[str, Any]:
        name = self._name(index_id)
        if switch == "pause":
            self._client.automations.pause(index_id, name, "asked for through the SDK")
        else:
            self._client.automations.resume(index_id, name)
        return _automation_as_there(self._client.automations.retrieve(index_id, name))

    def _put_automation(self, request: Request, index_id: str) -> dict[str, Any]:
        """Creates it in the configuration's file, or changes it there; a pause is switched, as in the UI."""
        wanted = _body(request, *_AUTOMATION)
        is_new = not self._client.pipeline.config.index(index_id).automations
        name = _NEW_AUTOMATION if is_new else self._name(index_id)
        there = {} if is_new else _automation_as_there(self._client.automations.retrieve(index_id, name))
        others: Any = {one: value for one, value in wanted.items() if one != "paused" and value != there.get(one)}
        if is_new and "paused" in wanted:
            others["paused"] = wanted["paused"]
        if others:
            self._client.automations.set(index_id, name, **others)
            there = _automation_as_there(self._client.automations.retrieve(index_id, name))
        if wanted.get("paused", there["paused"]) != there["paused"]:
            return self._switch({}, index_id, "pause" if wanted["paused"] else "resume")
        return there

    def _name(self, index_id: str) -> str:
        """The API knows one export automation of an index."""
        names = list(self._client.pipeline.config.index(index_id).automations)
        if not names:
            raise NotFoundError(f"index {index_id!r} has no export automation in the configuration")
        if len(names) > 1:
            raise videovector.ConflictError(
                f"index {index_id!r} has {len(names)} export automations ({', '.join(names)}), and this request cannot "
                "say which. `VVExports().automations` of vv_exports.client takes the name.",
                status_code=409,
                error_code="several_automations",
            )
        return names[0]


def _told(answer: Callable[..., Any], named: Sequence[str]) -> Answer:
    def told(request: Request) -> Any:
        with as_the_sdk_raises():
            return answer(request, *named)

    return told


def _body(request: Request, *known: str) -> dict[str, Any]:
    """What a request says. What this deployment does not know is refused, and nothing is ignored."""
    body = dict(request.get("json") or {})
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise invalid(f"{', '.join(unknown)}: not known to this deployment; there are {', '.join(known)}")
    if (scope := body.pop("result_scope", "all")) != "all":
        raise invalid(f"result_scope {scope!r} is not supported by this deployment, which exports all results: 'all'")
    return body


def _created(export: Export) -> dict[str, Any]:
    return {"export_id": export.export_id, "status": export.status.value}


def _automation_as_there(state: AutomationState) -> dict[str, Any]:
    return {"index_id": state.index_id, **{name: getattr(state, name) for name in _AUTOMATION}}


def _list_of(ids: Sequence[str] | None) -> list[str] | None:
    return None if ids is None else list(ids)
