"""What a delivery is going to make of its snapshots: the folder of each table, the columns of its files, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from vv_exports.content.column_json import column_from_json, column_to_json
from vv_exports.content.files import TableFiles
from vv_exports.content.quarantine import QuarantineFiles
from vv_exports.content.selection import Selection
from vv_exports.content.shapes import OwnColumn, Shapes, shaped
from vv_exports.content.video_files import VideoFiles
from vv_exports.delivery.content import Content
from vv_exports.delivery.entry import TableColumns
from vv_exports.delivery.state import LogState
from vv_exports.domain.tables import RunTable, TableName
from vv_exports.errors import ContractBrokenError
from vv_exports.printable import one_line
from vv_exports.snapshots.broken_rows import WITH_ANSWERS, breaks_contract
from vv_exports.snapshots.columns import Column
from vv_exports.snapshots.json_schema import kept_as_json
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.tables import table_of, with_metadata


@dataclass(frozen=True)
class Plan:
    """``files`` are what is made, by run id and table; ``folders`` where that goes. ``tables`` is what the log entry
    says of their columns."""

    files: Mapping[tuple[str, TableName], TableFiles | QuarantineFiles]
    folders: Mapping[tuple[str, TableName], str]
    tables: Sequence[TableColumns]

    def shape_ids(self) -> list[tuple[str, str, str]]:
        """Which columns each prompt has in each folder."""
        return sorted((table.prompt_id, table.folder, table.shape or "") for table in self.tables)


def plan(state: LogState, content: Content, snapshots: Sequence[Snapshot]) -> Plan:
    """What is made of snapshots, beside what a log holds. Pure, and so the same as long as the log says the same.

    Raises SchemaConflictError, or ContractBrokenError, where a run is to wait.
    """
    files: dict[tuple[str, TableName], TableFiles | QuarantineFiles] = {}
    folders: dict[tuple[str, TableName], str] = {}
    told: list[TableColumns] = []
    in_order = sorted(snapshots, key=lambda one: (one.executed_at, one.run_id))
    if content.options.contract == "block":
        for snapshot in in_order:
            _check_contract(snapshot, content)
    for prompt_id in dict.fromkeys(one.prompt_id for one in in_order):
        of_prompt = [one for one in in_order if one.prompt_id == prompt_id]
        for table in content.options.tables:
            runs = [one for one in of_prompt if table in one.tables]
            if not runs:
                continue
            shapes = _shapes(state, content, prompt_id, table, runs)
            for snapshot in runs:
                folder = folders[snapshot.run_id, table] = shapes.folders[snapshot.run_id]
                files[snapshot.run_id, table] = _files(snapshot, table, shapes.columns.get(folder), content)
            told += _told(
                state,
                content,
                prompt_id,
                table,
                shapes,
                {folders[one.run_id, table]: files[one.run_id, table] for one in runs},
            )
        if content.options.contract == "quarantine":
            apart = {
                one.run_id: QuarantineFiles(one, content.options, content.key)
                for one in of_prompt
                if any(table in content.options.tables and breaks_contract(one, table) for table in WITH_ANSWERS)
            }
            for run_id, made in apart.items():
                folders[run_id, "quarantine"] = "quarantine"
                files[run_id, "quarantine"] = made
            if apart:
                shapes = Shapes({}, dict.fromkeys(apart, "quarantine"), {}, {})
                told += _told(state, content, prompt_id, "quarantine", shapes, {"quarantine": made})
    return Plan(files, folders, told)


def _files(snapshot: Snapshot, table: RunTable, metadata: Column | None, content: Content) -> TableFiles:
    if content.options.format.is_by_video:
        return VideoFiles(snapshot, table, content.options, content.key)
    return TableFiles(snapshot, table, metadata, content.options, content.key)


def _shapes(state: LogState, content: Content, prompt_id: str, table: RunTable, runs: Sequence[Snapshot]) -> Shapes:
    if table == "failures" or not content.options.format.has_columns:
        return Shapes({}, {one.run_id: content.options.format.folder(table) for one in runs}, {}, {})
    there = {folder: column_from_json(shape.metadata) for folder, shape in state.shapes_of(prompt_id).items()}
    own = [
        OwnColumn(
            one.run_id,
            # As this version types it, whatever its own files are: what version 0.1 gave columns, readers may not hold.
            table_of(table, one.schema_of(table)).column.fields["metadata"],
            state.runs[one.run_id].folders if one.run_id in state.runs else frozenset(),
        )
        for one in runs
    ]
    selection, like = Selection(content.options, content.key), runs[0].table(table)

    def delivered(metadata: Column) -> Column | None:
        return selection.column(with_metadata(like, metadata).column).fields.get("metadata")

    return shaped(table, there, own, content.options.on_schema_conflict, delivered)


def _told(  # noqa: PLR0917
    state: LogState,
    content: Content,
    prompt_id: str,
    table: TableName,
    shapes: Shapes,
    files: Mapping[str, TableFiles | QuarantineFiles],
) -> Iterable[TableColumns]:
    for folder, made in files.items():
        metadata = shapes.columns.get(folder)
        shape = None if metadata is None else made.shape
        before = state.shapes_of(prompt_id).get(folder)
        # Fields that are not delivered change no file.
        is_as_before = before is not None and before.id == shape
        yield TableColumns(
            prompt_id=prompt_id,
            table=table,
            folder=folder,
            columns=made.columns if content.options.format.has_columns else None,
            metadata=None if metadata is None else column_to_json(metadata),
            shape=shape,
            kept_as_json=dict(kept_as_json(metadata, "/metadata")) if metadata is not None else {},
            change=None if is_as_before else shapes.changes.get(folder),
            effect=UNSET if is_as_before else shapes.effects.get(folder, UNSET),
        )


def _check_contract(snapshot: Snapshot, content: Content) -> None:
    """Raise ContractBrokenError for a run that is not known to keep to its prompt's schemas, where it has one."""
    for table in content.options.tables:
        report = snapshot.contract.get(table)
        if report is None or snapshot.schema_of(table) is None:
            continue
        if report.problem is not None:
            found = f"its {table} cannot be checked against its prompt's schema: {report.problem}"
        elif report.broken:
            breaks = "breaks" if report.broken == 1 else "break"
            found = f"{report.broken:,} of its {report.rows:,} {table} {breaks} its prompt's schema"
            if content.selection.is_everything:  # a name may be a model's, and of what is left out
                found += f"; most of them at {report.places[0].place or 'the whole'}: {report.places[0].message}"
        else:
            continue
        raise ContractBrokenError(
            f"prompt run {one_line(snapshot.run_id)} is not delivered, since {one_line(found)}. Set contract to "
            "quarantine, and such rows go to a table of their own; or to warn, and they are delivered as they are.",
            snapshot.run_id,
        )
