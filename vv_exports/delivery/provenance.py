"""Where what an entry delivers comes from, as the entry says it, and the id that a delivery has by it."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from vv_exports import __version__
from vv_exports.delivery.content import Content
from vv_exports.delivery.entry import Provenance, RunProvenance
from vv_exports.domain.json_text import encode_sorted
from vv_exports.snapshots.store import Snapshot


def delivery_id(
    uri: str, content: Content, snapshots: Sequence[Snapshot], shapes: Sequence[tuple[str, str, str]] = ()
) -> str:
    """A hash of what is delivered and to where, never of the clock: 32 hex characters. ``shapes`` are the metadata
    columns by prompt and folder."""
    runs = sorted((snapshot.run_id, snapshot.data_version, snapshot.status) for snapshot in snapshots)
    return _hash([content.id, uri, runs, shapes])[:32]


def provenance_of(
    content: Content,
    snapshots: Sequence[Snapshot],
    *,
    snapshot_store: str,
    dagster_run_id: str | None,
    commit: Literal["put_if_absent", "single_writer"],
) -> Provenance:
    """How snapshots are delivered as a content."""
    shown = _shown_without_values if content.options.redact else _shown
    return Provenance(
        vv_exports_version=__version__,
        dagster_run_id=dagster_run_id,
        snapshot_store=snapshot_store,
        format=content.options.format.name,
        layout_version=content.layout_version,
        prompt_runs=[_run_provenance(snapshot, shown) for snapshot in snapshots],
        json_schemas={
            _hash(shown(schema)): shown(schema)
            for snapshot in snapshots
            for schema in (snapshot.json_schema, snapshot.video_level_schema)
            if schema is not None
        },
        commit=commit,
        content_id=content.id,
        content=content.described,
    )


def provenance_of_snapshot(snapshot: Snapshot) -> RunProvenance:
    """Where the rows of a snapshot come from."""
    return _run_provenance(snapshot, _shown)


def _run_provenance(snapshot: Snapshot, shown: Callable[[Any], Any]) -> RunProvenance:
    record = snapshot.run
    segmentation = {
        name: value for name, value in sorted(record.items()) if "segmentation" in name or "_duration" in name
    }
    model = record.get("processing_model")
    return RunProvenance(
        run_id=snapshot.run_id,
        executed_at=snapshot.executed_at.isoformat().replace("+00:00", "Z"),
        prompt_id=snapshot.prompt_id,
        prompt_name=snapshot.prompt_name,
        prompt_text_sha256=hashlib.sha256(snapshot.prompt_text.encode()).hexdigest(),
        schema_sha256=_hash(shown(snapshot.json_schema)),
        video_level_schema_sha256=(
            None if snapshot.video_level_schema is None else _hash(shown(snapshot.video_level_schema))
        ),
        processing_model=model if isinstance(model, str) else None,
        segmentation=segmentation,
    )


def _shown(schema: Any) -> Any:
    return schema


_VALUES = frozenset({"const", "default", "enum", "example", "examples"})


def _shown_without_values(schema: Any) -> Any:
    """A schema without the values that it names, where values are redacted."""
    match schema:
        case dict():
            return {
                name: {one: _shown_without_values(part) for one, part in value.items()}
                if name in {"properties", "$defs", "definitions"} and isinstance(value, dict)
                else _shown_without_values(value)
                for name, value in schema.items()
                if name not in _VALUES
            }
        case list():
            return [_shown_without_values(part) for part in schema]
        case _:
            return schema


def _hash(value: object) -> str:
    return hashlib.sha256(encode_sorted(value)).hexdigest()
