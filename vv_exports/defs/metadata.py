"""What a materialization shows in the Dagster UI. Pure, and never a secret: it is made of what was delivered."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import dagster as dg
import msgspec
import pyarrow as pa

from vv_exports.automations.reconcile import Reconciliation
from vv_exports.automations.repair import Repair
from vv_exports.content.coverage import coverage_of
from vv_exports.content.described import DescribedColumn, described
from vv_exports.content.selection import Selection
from vv_exports.defs.dagster_internals import StepExecutionContext, log_materializations
from vv_exports.delivery.deliver import DeliveredPromptRun, Delivery
from vv_exports.delivery.entry import DeliveredFile
from vv_exports.delivery.overview import collected_runs
from vv_exports.delivery.state import LogState
from vv_exports.errors import DeliveredDataError
from vv_exports.exports.make import ExportJob, ExportOutcome
from vv_exports.pictures.coverage import MOST_MEDIA, coverage_picture
from vv_exports.pictures.deliveries import deliveries_picture
from vv_exports.pictures.drawing import data_uri
from vv_exports.pictures.report import OF_RUNS_NUMBERS, run_fields
from vv_exports.snapshots.store import Snapshot, SnapshotStore
from vv_exports.snapshots.tables import Table

Metadata = dict[str, Any]

_PREVIEW_ROWS = 5
_PREVIEW_COLUMNS = ("video_name", "segment_id", "start_time", "end_time", "metadata", "rescued")
_CELL = 120
_SAID = 200
_COLUMNS = 60
_KEPT = 50
_MARKDOWN = frozenset("|\\`*_[]<>!#~&")


def log_materialized(
    step: StepExecutionContext, key: dg.AssetKey, metadata: Iterable[tuple[str, Mapping[str, Any]]]
) -> None:
    """Say at once that partitions are materialized: each with its metadata, which says its content too. Of what a step
    succeeds with it says it by itself, and would say it twice."""
    log_materializations(step, (_materialization(key, partition, values) for partition, values in metadata))


def _materialization(key: dg.AssetKey, partition: str, metadata: Mapping[str, Any]) -> dg.AssetMaterialization:
    version = {
        "dagster/data_version": str(metadata["data_version"]),
        "dagster/data_version_is_user_provided": "true",
    }
    return dg.AssetMaterialization(asset_key=key, partition=partition, metadata=dict(metadata), tags=version)


def data_version(snapshots: Sequence[Snapshot]) -> dg.DataVersion:
    """One data version for several runs: that of the run where there is one, else a hash of all."""
    if len(snapshots) == 1:
        return dg.DataVersion(snapshots[0].data_version)
    digest = hashlib.sha256()
    for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.run_id):
        digest.update(f"{snapshot.run_id}\n{snapshot.data_version}\n".encode())
    return dg.DataVersion(digest.hexdigest())


def snapshot_metadata(snapshot: Snapshot, store: SnapshotStore, shown: Selection) -> Metadata:
    """Of one partition of ``prompt_runs``. ``shown`` is what may be seen of its rows."""
    return {
        "prompt": snapshot.prompt_name,
        "status": str(snapshot.status),
        "executed_at": dg.MetadataValue.timestamp(snapshot.executed_at),
        "revision": snapshot.revision,
        "data_version": snapshot.data_version,
        "dagster/partition_row_count": snapshot.rows("segments"),
        "video_results": snapshot.rows("videos"),
        "failed_segments": snapshot.rows("failures"),
        "rows_with_rescued_values": snapshot.rescued_rows,
        "kept_as_json": dg.MetadataValue.json(_first_kept(snapshot.kept_as_json)),
        **_table_metadata(snapshot, store, shown),
        **_coverage(snapshot, store, shown),
    }


def collection_metadata(state: LogState, now: datetime) -> Metadata:
    """Of a collection as a whole, shown with what was delivered last."""
    runs = collected_runs(state)
    if not runs:
        return {}
    return {
        "collection": dg.MetadataValue.table(
            records=[dg.TableRecord(run_fields(run)) for run in runs[:_KEPT]],
            schema=dg.TableSchema(
                columns=[
                    dg.TableColumn(name, "int" if name in OF_RUNS_NUMBERS else "string") for name in run_fields(runs[0])
                ]
            ),
        ),
        "collected_prompt_runs": len(runs),
        "deliveries": _image("deliveries over time", deliveries_picture(runs, now)),
    }


def pace(rows: int, seconds: float, prefix: str = "") -> Metadata:
    """How quickly rows were read or delivered: numbers, which the UI plots."""
    return {f"{prefix}seconds": round(seconds, 3), f"{prefix}rows_per_second": round(rows / max(seconds, 0.001), 1)}


def batch_pace(rows: int, seconds: float) -> Metadata:
    """The same of a batch, shown with one of its partitions: how long each one took is not known."""
    return {"batch_rows": rows, **pace(rows, seconds, "batch_")}


def _coverage(snapshot: Snapshot, store: SnapshotStore, shown: Selection) -> Metadata:
    try:
        found = coverage_of(snapshot, store, shown, MOST_MEDIA)
    except (pa.ArrowException, DeliveredDataError):
        return {}  # which the preview says
    return {"coverage": _image("segments of each medium", coverage_picture(found))} if found.media else {}


def _image(title: str, document: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![{title}]({data_uri(document)})")


def delivered_run_metadata(
    run: DeliveredPromptRun, delivery: Delivery, snapshot: Snapshot, store: SnapshotStore, shown: Selection
) -> Metadata:
    """Of one partition of an export asset. ``shown`` is what is delivered of its rows."""
    changes = [one.change for one in delivery.tables if one.prompt_id == snapshot.prompt_id and one.change is not None]
    return {
        **_delivery_metadata(delivery),
        "newly_written": run.written,
        "prompt": snapshot.prompt_name,
        "status": str(snapshot.status),
        "data_version": run.data_version,
        "rows": run.rows(),
        "files": len(run.files),
        "bytes": run.bytes,
        "dagster/partition_row_count": run.rows("segments"),
        **_quarantined(run.files),
        **({"schema_change": "; ".join(changes)} if changes else {}),
        **_table_metadata(snapshot, store, shown),
    }


def export_metadata(outcome: ExportOutcome, job: ExportJob, store: SnapshotStore, shown: Selection) -> Metadata:
    """Of an export on demand. Prompts that differ have no one column schema; the preview is the first run's. ``shown``
    is what is delivered of its rows."""
    delivery = outcome.delivery
    one_prompt = len({snapshot.prompt_id for snapshot in job.snapshots}) == 1
    return {
        **_delivery_metadata(delivery),
        "export_id": job.export_id,
        "destination_uri": dg.MetadataValue.path(outcome.destination_uri),
        "prompt_runs": dg.MetadataValue.json([run.run_id for run in delivery.prompt_runs]),
        "rows": delivery.rows,
        **_quarantined(delivery.files),
        "files": len(delivery.files),
        "bytes": outcome.bytes,
        **(_table_metadata(job.snapshots[0], store, shown) if one_prompt else {}),
        "preview": dg.MetadataValue.md(_preview(job.snapshots[0], store, shown)),
    }


def _quarantined(files: Sequence[DeliveredFile]) -> Metadata:
    rows = sum(file.rows for file in files if file.table == "quarantine")
    return {"quarantined_rows": rows} if rows else {}


def reconciliation_metadata(found: Reconciliation) -> Metadata:
    """What a reconciliation found and did."""
    lists = {
        "missing": found.missing,
        "changed": found.changed,
        "damaged": found.damaged,
        "delivered": found.delivered,
        "failed": tuple(found.problems),
    }
    return {
        "prompt_runs": found.prompt_runs,
        "files_verified": found.verified,
        **{name: len(run_ids) for name, run_ids in lists.items()},
        "found": dg.MetadataValue.json({name: list(run_ids[:_KEPT]) for name, run_ids in lists.items() if run_ids}),
        "problems": dg.MetadataValue.json(_first_kept(found.problems)),
    }


def repair_metadata(found: Repair) -> Metadata:
    """What was mended of a collection."""
    return {
        "delivered": len(found.delivered),
        "log_entries_mended": len(found.mending.entries),
        "owner_file_restored": found.owner_restored,
        "found": dg.MetadataValue.json(
            {
                "delivered": list(found.delivered[:_KEPT]),
                "erased": list(found.erased[:_KEPT]),
                "log_entries": [one.problem for one in found.mending.entries[:_KEPT]],
            }
        ),
        "failed": len(found.problems),
        "problems": dg.MetadataValue.json(_first_kept(found.problems)),
    }


def _delivery_metadata(delivery: Delivery) -> Metadata:
    return {
        "destination_uri": dg.MetadataValue.path(delivery.uri),
        **({} if delivery.page is None else {"destination": dg.MetadataValue.url(delivery.page)}),
        "delivery_id": delivery.delivery_id,
        "log_sequence": delivery.sequence,
    }


def _table_metadata(snapshot: Snapshot, store: SnapshotStore, shown: Selection) -> Metadata:
    try:
        columns = Table("segments", shown.column(snapshot.table("segments").column))
        return {
            "dagster/column_schema": column_schema(
                described(columns, snapshot.json_schema, values=shown.is_everything)
            ),
            "preview": dg.MetadataValue.md(_preview(snapshot, store, shown)),
        }
    except (pa.ArrowException, DeliveredDataError) as error:
        # A snapshot that was damaged after it was delivered must not fail a batch in which nothing else is wrong.
        return {"preview": dg.MetadataValue.md(f"the snapshot cannot be read: {_cell(str(error))}")}


def column_schema(columns: Iterable[DescribedColumn]) -> dg.TableSchema:
    """Columns as Dagster shows them."""
    each = iter(columns)
    shown = [
        dg.TableColumn(name=_cut(one.path, _CELL), type=_cut(one.type, _CELL), description=_cut(one.description, _SAID))
        for one in islice(each, _COLUMNS)
    ]
    more = sum(1 for _ in each)
    if more:
        shown.append(dg.TableColumn(name="…", type="", description=f"and {more:,} more"))
    return dg.TableSchema(columns=shown)


def _preview(snapshot: Snapshot, store: SnapshotStore, shown: Selection) -> str:
    """The first rows of a run's segments as a Markdown table."""
    column = snapshot.table("segments").column
    # A selection needs the other columns, too.
    needed = None if shown.changes(column) else _PREVIEW_COLUMNS
    rows = shown.apply(store.head(snapshot, "segments", _PREVIEW_ROWS, needed), column).to_pylist()
    if not rows:
        return "*no rows*"
    names = [name for name in _PREVIEW_COLUMNS if any(row.get(name) is not None for row in rows)]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _first_kept(kept: Mapping[str, str]) -> dict[str, str]:
    """A prompt can have thousands of places without a typed column; the snapshot itself lists them all."""
    more = {"…": f"{len(kept) - _KEPT} more"} if len(kept) > _KEPT else {}
    return dict(islice(kept.items(), _KEPT)) | more


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
    # Extracted text may hold anything: it must stay inside its cell, and be text.
    words = " ".join(_cut(text, _CELL).split())
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
    return "".join(f"\\{character}" if character in _MARKDOWN else character for character in shown)
