"""Requests as the pipeline's storage keeps them: in records, and as what an idempotency key stands for.

A request that chooses nothing of the content but a format, and nothing else beside it, is kept as before there was more
to choose: what was written then is read, and the same request has the same bytes.
"""

from typing import Any

import msgspec

from vv_exports.config import content_options
from vv_exports.domain.exports import BESIDE, ExportRequest, ExportType


def stored(request: ExportRequest) -> dict[str, Any]:
    """A request as plain values, the same for equal ones."""
    chosen = request.content.chosen
    if isinstance(chosen["format"], str):
        del chosen["format"]
    return {
        "export_type": request.export_type,
        "index_id": request.index_id,
        "prompt_run_ids": request.prompt_run_ids,
        "destination_connector_id": request.destination_connector_id,
        "destination_subpath": request.destination_subpath,
        "format": request.format,
        **({"content": chosen} if chosen else {}),
        **{name: True for name in BESIDE if getattr(request, name)},
    }


def restored(data: Any) -> ExportRequest:
    """The request of plain values as ``stored`` makes them. Raises msgspec.ValidationError, or RequestError for
    a content that this version does not know."""
    kept = msgspec.convert(data, _Stored)
    return ExportRequest(
        export_type=kept.export_type,
        index_id=kept.index_id,
        prompt_run_ids=kept.prompt_run_ids,
        destination_connector_id=kept.destination_connector_id,
        destination_subpath=kept.destination_subpath,
        content=content_options({"format": kept.format, **kept.content}),
        bag=kept.bag,
        dataset_card=kept.dataset_card,
    )


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    export_type: ExportType
    index_id: str
    prompt_run_ids: tuple[str, ...] | None
    destination_connector_id: str | None
    destination_subpath: str | None
    format: str
    content: dict[str, Any] = {}
    bag: bool = False
    dataset_card: bool = False
