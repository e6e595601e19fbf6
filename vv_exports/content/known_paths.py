"""Which paths lead to a column, and which do not: a path that leads nowhere is a mistake that has to be told."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher

from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.field_paths import ITEMS, FieldPath, Items, Step, parse_path
from vv_exports.domain.field_rules import KEPT_NAMES, RESCUED
from vv_exports.domain.names import caseless
from vv_exports.errors import SelectionError, first_few
from vv_exports.printable import one_line
from vv_exports.snapshots.columns import Column, Json, List, Object

TRANSCRIPTION = "transcription"
_LISTED = 20
_LONGEST = 120
_COMPARED = 3


def unknown_paths(options: ContentOptions, columns: Iterable[Object]) -> list[str]:
    """The paths of a choice that lead to no column in any of these tables, as they were written.

    What is below a place that is kept as JSON text may be there. Redaction takes no notice of case. Raises ValueError
    for what is no path.
    """
    fields, shown = options.fields, shown_paths(options)
    open_paths = {text: (parse_path(text), False) for text in (*(fields.include or ()), *fields.exclude, *shown)}
    open_paths |= {text: (parse_path(text), True) for text in options.redact if text not in open_paths}
    open_paths = {
        text: (path, is_caseless)
        for text, (path, is_caseless) in open_paths.items()
        if path.steps[0] not in KEPT_NAMES | {RESCUED}
    }
    for column in columns:
        if not open_paths:
            break
        open_paths = {text: said for text, said in open_paths.items() if not _leads_somewhere(column, *said)}
    return list(open_paths)


def shown_paths(options: ContentOptions) -> list[str]:
    """The paths that somebody chose to be read in files of videos. ``transcription`` is the platform's own, of which no
    schema tells."""
    chosen = (*(options.format.text or ()), *options.format.note)
    return [text for text in chosen if parse_path(text).steps != (TRANSCRIPTION,)]


def unknown_fields_error(unknown: Sequence[str], columns: Iterable[Object], index_id: str) -> SelectionError:
    """What to say of them: the fields that there are, those first that look like what was meant."""
    known = list(dict.fromkeys(_short(str(path)) for column in columns for path in _leaves(column, ())))
    meant = [_short(text) for text in unknown[:_COMPARED]]
    known.sort(key=lambda path: -max(SequenceMatcher(None, path, text).ratio() for text in meant))
    shown = first_few(known, _LISTED)
    names = ", ".join(first_few([repr(_short(text)) for text in unknown], _LISTED))
    return SelectionError(
        f"{names}: no prompt of index {one_line(index_id)} has such a field in its schema, in the tables that are "
        f"delivered. There are: {', '.join(shown)}. These paths may be named, and those that they are in."
    )


def _leads_somewhere(column: Column | None, path: FieldPath, is_caseless: bool) -> bool:
    columns = [column]
    for step in path.steps:
        columns = [inner for outer in columns for inner in _inner(outer, step, is_caseless)]
        if any(isinstance(inner, Json) for inner in columns):
            return True
    return bool(columns)


def _inner(column: Column | None, step: Step, is_caseless: bool) -> Iterator[Column]:
    if isinstance(step, Items):
        if isinstance(column, List):
            yield column.item
    elif isinstance(column, Object):
        if not is_caseless:
            yield from (column.fields[step],) if step in column.fields else ()
            return
        meant = caseless(step)
        yield from (inner for name, inner in column.fields.items() if caseless(name) == meant)


def _leaves(column: Column, place: tuple[Step, ...]) -> Iterator[FieldPath]:
    match column:
        case Object():
            for name, inner in column.fields.items():
                yield from _leaves(inner, (*place, name))
        case List(item=item):
            yield from _leaves(item, (*place, ITEMS))
        case _:
            yield FieldPath(place)


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
