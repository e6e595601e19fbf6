"""Whether the fields that somebody names exist: a path that no schema of the index has is an error."""

from collections.abc import Callable, Iterable, Sequence

from vv_exports.content.known_paths import shown_paths, unknown_fields_error, unknown_paths
from vv_exports.domain.content_options import ContentOptions
from vv_exports.snapshots.columns import Object
from vv_exports.snapshots.schemas import KnownSchema
from vv_exports.snapshots.tables import table_of


def check_fields(
    options: ContentOptions, index_id: str, own: Iterable[KnownSchema], of_index: Callable[[], Sequence[KnownSchema]]
) -> None:
    """Raise SelectionError where a chosen or redacted path is in no table that there is.

    ``own`` are the schemas of the runs that are delivered; those of the whole index are asked for where these do not
    have all paths: another prompt may have them.
    """
    names_fields = options.redact or options.fields.exclude or options.fields.include is not None
    if not names_fields and not shown_paths(options):
        return
    if not unknown_paths(options, _columns(options, own)):
        return
    columns = _columns(options, of_index())
    if unknown := unknown_paths(options, columns):
        raise unknown_fields_error(unknown, columns, index_id)


def _columns(options: ContentOptions, schemas: Iterable[KnownSchema]) -> list[Object]:
    """Of the tables that are delivered, those of runs without a video level included."""
    always = [table_of(table, None).column for table in options.tables if table == "failures"]
    return always + [table_of(one.table, one.json_schema).column for one in schemas if one.table in options.tables]
