"""Chosen fields and redaction, on columns, on typed rows and on documents, which agree: typed rows that are selected
are the rows of the selected documents.

The usual rows go through Arrow's kernels. A row is taken apart in Python where a value that did not fit its column, or
an absence, stands in a place that is looked into.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.content.pseudonyms import Replacements
from vv_exports.content.rules import KEPT, MISSING, Action, PathTree, Rule, tree_of
from vv_exports.content.selected_arrays import SelectedArrays, rule_at
from vv_exports.content.selected_text import selected_text
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.field_paths import FieldPath, Items, parse_path
from vv_exports.domain.field_rules import KEPT_NAMES, RESCUED, check_field_rules
from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.domain.names import caseless
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import CredentialsError
from vv_exports.snapshots.columns import Built, Column, Json, List, Misfit, Object, Text
from vv_exports.snapshots.json_pointer import pointer, tokens
from vv_exports.snapshots.rebuild import rebuild_documents, rescue_columns
from vv_exports.snapshots.tables import RUN_COLUMNS

METADATA = "metadata"
ANSWER_TEXTS = ("metadata_text", "raw_llm_response", "schema_used")
"""Fields of a result that repeat its ``metadata``, or the schema of it, which may name values (``enum``)."""
ERROR_TEXTS = (
    *("field_extraction_error", "transcription_error", "image_embedding_error", "processing_warning"),
    *("error_message", "embedding_error", "failure_message"),
)
"""Fields in which the platform, or a model, may quote anything."""
NAMING_TEXTS = ("gcs_uri", "thumbnail_gcs_uri", "gif_gcs_uri", "result_id")
"""Fields that are made of the names and ids of a video and a segment."""
_MOST_REMEMBERED = 4  # columns: a table's, and those of its record
_NAMES_AND_IDS = frozenset({"video_id", "video_name", "segment_id"})


@dataclass(frozen=True)
class _Fitted:
    """What a choice comes to for the columns of one table."""

    column: Object
    selected: Object
    rule: Rule

    @cached_property
    def record(self) -> Object:
        """The columns without that of the answer."""
        fields = {name: column for name, column in self.column.fields.items() if name != METADATA}
        return replace(self.column, fields=fields)


class Selection:
    """What is chosen of the rows of any table. ``key`` is that of redaction by hash.

    Raises SelectionError where the choice contradicts itself, CredentialsError where a key is needed and missing.
    """

    def __init__(self, options: ContentOptions, key: bytes | None = None) -> None:
        check_field_rules(options)
        if key is None and options.hashes:
            raise CredentialsError("fields are redacted by hash, and there is no key for it")
        self._replacements = Replacements(key)
        include = None if options.fields.include is None else _paths(options.fields.include)
        exclude = _paths(options.fields.exclude)
        redact = [(parse_path(text), Action(method)) for text, method in options.redact.items()]
        self._drops_misfits = any(path.steps == (RESCUED,) for path in [*exclude, *(path for path, _ in redact)])
        redact = [(path, action) for path, action in redact if path.steps != (RESCUED,)]
        self._redacts = bool(redact)
        self._include = None if include is None else _included(include)
        self._exclude = [path for path in exclude if path.steps != (RESCUED,)]
        self._redact = tree_of([*redact, *_copies(redact)], caseless)
        self._fitted: list[_Fitted] = []

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out or replaced, whatever the columns are."""
        return self._include is None and not (self._exclude or self._redact or self._drops_misfits)

    def changes(self, column: Object) -> bool:
        """Whether rows with these columns may have something in them that is not delivered as it is."""
        return not self.is_everything and (self._drops_misfits or self._redacts or self._fit(column).rule is not KEPT)

    def column(self, column: Object) -> Object:
        """The columns that are delivered of these.

        What is hashed or masked is text. An object without any of its columns goes too, and so does a column whose
        type is not the structure that a redacted or an included path has.
        """
        return column if self.is_everything else self._fit(column).selected

    def apply(self, batch: pa.RecordBatch, column: Object) -> pa.RecordBatch:
        """Rows with these columns (the ids of the run, the fields, ``rescued``, ``absent``) with those delivered."""
        if not self.changes(column):
            return batch
        fitted = self._fit(column)
        rescued, unusual = self._rescued(batch.column(RESCUED), fitted)
        batch = batch.set_column(batch.schema.get_field_index(RESCUED), RESCUED, rescued)
        arrays = SelectedArrays(fitted.rule, self._replacements)
        typed = self._typed(batch, fitted, arrays)
        unusual |= arrays.unusual
        if not unusual:
            return typed
        usual = [position for position in range(batch.num_rows) if position not in unusual]
        taken = [*usual, *sorted(unusual)]
        order = pc.sort_indices(pa.array(taken, pa.int64()))
        rebuilt = self._rebuilt(batch.take(pa.array(sorted(unusual), pa.int64())), fitted)
        return pa.concat_batches([typed.take(pa.array(usual, pa.int64())), rebuilt]).take(order)

    def record(self, batch: pa.RecordBatch, column: Object) -> pa.RecordBatch:
        """The same without ``metadata``, and what ``rescued`` and ``absent`` say of it: for formats that take it from
        the answers."""
        if METADATA not in column.fields or not self.changes(column):
            return self.apply(batch, column)
        columns = {name: batch.column(name) for name in batch.schema.names if name != METADATA}
        columns[RESCUED] = _without_metadata(columns[RESCUED])
        columns["absent"] = pa.nulls(batch.num_rows, columns["absent"].type)  # a record's own field is null then
        record = self._fit(column).record
        return self.apply(_batch(columns, record), record)

    def answers(self, answers: pa.StringArray, batch: pa.RecordBatch, column: Object) -> pa.StringArray | None:
        """The same of the JSON text of each ``metadata``, as the model answered it; None where none is delivered.
        ``batch`` are the rows as ``apply`` takes them."""
        if not self.changes(column):
            return answers
        rule = self._fit(column).rule.child(METADATA)
        if METADATA not in column.fields or rule.action is Action.DROP:
            return None
        if self._drops_misfits:
            answers = _without_misfits_in_text(answers, batch.column(RESCUED), column.fields[METADATA])
        if rule.action is Action.KEEP:
            return answers
        texts = answers.cast(pa.binary()).to_pylist()
        selected = [None if text is None else selected_text(text, rule, self._replacements) for text in texts]
        return pa.array(selected, pa.string())

    def rule_of_answers(self, column: Object) -> Rule:
        """What becomes of the places of ``metadata``."""
        return self._fit(column).rule.child(METADATA) if self.changes(column) else KEPT

    def document(self, document: JsonObject, column: Object) -> JsonObject:
        """The same of one decoded result."""
        return self._documents([copy.deepcopy(document)], column)[0] if self.changes(column) else document

    def _documents(self, documents: list[JsonObject], column: Object) -> list[JsonObject]:
        if self._redacts:  # what the platform added to a result may repeat the answer
            documents = [{name: document[name] for name in document if name in column.fields} for document in documents]
        if self._drops_misfits:
            documents = _without_misfits(documents, column)
        rule = self._fit(column).rule
        return [rule.apply(document, self._replacements.of_value) for document in documents]

    def _fit(self, column: Object) -> _Fitted:
        for known in self._fitted:
            if known.column is column:
                return known
        # Twice: where a column goes, all in its place goes, whatever its structure is in a document.
        vanished: list[FieldPath] = []
        _selected_fields(column, self._rule([]), (), vanished)
        rule = self._rule(vanished)
        fitted = _Fitted(column, replace(column, fields=_selected_fields(column, rule, (), [])), rule)
        self._fitted = [fitted, *self._fitted[: _MOST_REMEMBERED - 1]]
        return fitted

    def _rule(self, vanished: list[FieldPath]) -> Rule:
        exclude = tree_of((path, Action.DROP) for path in [*self._exclude, *vanished])
        if self._include is None and not exclude and not self._redact:
            return KEPT
        return Rule(self._include, exclude, self._redact)

    def _rescued(self, rescued: pa.StringArray, fitted: _Fitted) -> tuple[pa.StringArray, set[int]]:
        """What is delivered of ``rescued`` as it is, and the rows that have more to be looked at in it."""
        unusual: set[int] = set()
        if rescued.null_count == len(rescued):
            return rescued, unusual
        positions = pc.indices_nonzero(rescued.is_valid()).to_pylist()
        if self._drops_misfits:
            return rescued, set(positions)
        texts: list[str | bytes | None] = rescued.to_pylist()
        actions: dict[str, Action] = {}
        for position in positions:
            values = decode((texts[position] or "").encode())
            kept = {}
            for place, value in values.items():
                if place not in actions:
                    actions[place] = self._action_at(place, fitted)
                if actions[place] is Action.KEEP:
                    kept[place] = value
                elif actions[place] is not Action.DROP:
                    unusual.add(position)
            if len(kept) < len(values) and position not in unusual:
                texts[position] = encode_sorted(kept) if kept else None
        return pa.array(texts, pa.string()), unusual

    def _action_at(self, place: str, fitted: _Fitted) -> Action:
        if self._redacts and tokens(place)[0] not in fitted.column.fields:
            return Action.DROP
        return rule_at(place, fitted.column, fitted.rule)[0].action

    def _typed(self, batch: pa.RecordBatch, fitted: _Fitted, arrays: SelectedArrays) -> pa.RecordBatch:
        columns = {name: batch.column(name) for name in RUN_COLUMNS}
        for name in fitted.selected.fields:
            columns[name] = arrays.selected(batch.column(name), fitted.column.fields[name], fitted.rule.child(name))
        columns[RESCUED] = batch.column(RESCUED)
        columns["absent"] = arrays.absent(batch.column("absent"), fitted.column)
        return _batch(columns, fitted.selected)

    def _rebuilt(self, batch: pa.RecordBatch, fitted: _Fitted) -> pa.RecordBatch:
        documents = self._documents(rebuild_documents(batch, fitted.column), fitted.column)
        built = _built(documents, fitted.selected)
        rescued, absent = rescue_columns(built, len(documents))
        if self._drops_misfits:
            rescued = pa.nulls(len(documents), pa.string())
        fields = dict(zip(fitted.selected.fields, built.array.flatten(), strict=True))
        ids = {name: batch.column(name) for name in RUN_COLUMNS}
        return _batch({**ids, **fields, RESCUED: rescued, "absent": absent}, fitted.selected)


def _paths(texts: Iterable[str]) -> list[FieldPath]:
    return [parse_path(text) for text in texts]


def _included(paths: Iterable[FieldPath]) -> PathTree:
    tree = PathTree()
    for path in paths:
        if path.steps[0] not in KEPT_NAMES | {RESCUED}:  # every file has them
            tree.add(path, Action.KEEP)
    return tree


def _copies(redact: list[tuple[FieldPath, Action]]) -> list[tuple[FieldPath, Action]]:
    """What redaction leaves out beside what it names: a redacted value is nowhere in what is delivered."""
    if not redact:
        return []
    names = {caseless(str(path.steps[0])) for path, _ in redact}
    whole = {caseless(str(path.steps[0])): action for path, action in redact if len(path.steps) == 1}
    copies = dict.fromkeys(ERROR_TEXTS, Action.DROP)
    if METADATA in names:
        copies |= dict.fromkeys(ANSWER_TEXTS, Action.DROP)
    if names & _NAMES_AND_IDS:
        copies |= dict.fromkeys(NAMING_TEXTS, Action.DROP)
    if "segment_id" in whole:
        copies["preview_segment_id"] = whole["segment_id"]
    return [(FieldPath((name,)), action) for name, action in copies.items() if name not in names]


def _selected_fields(
    column: Object, rule: Rule, place: tuple[str | Items, ...], vanished: list[FieldPath]
) -> dict[str, Column]:
    fields = {}
    for name, inner in column.fields.items():
        selected = _selected_column(inner, rule.child(name), (*place, name), vanished)
        if selected is not None:
            fields[name] = selected
    return fields


def _selected_column(
    column: Column, rule: Rule, place: tuple[str | Items, ...], vanished: list[FieldPath]
) -> Column | None:
    """The column that is delivered of a place, or None; then it is among those that vanished."""
    selected: Column | None = None
    match rule.action, column:
        case Action.KEEP, _:
            return column
        case Action.DROP, _:
            return None
        case ((Action.HASH | Action.MASK), _):
            # Where a typed null is an absent property, it still is one.
            return Text(nullable=column.null_is_stored)
        case _, Json():
            return column
        case _, Object() if rule.takes_objects:
            fields = _selected_fields(column, rule, place, vanished)
            selected = replace(column, fields=fields) if fields else None
        case _, List(item=item) if rule.takes_lists:
            inner = _selected_column(item, rule.child(Items.ALL), (*place, Items.ALL), vanished)
            selected = None if inner is None else replace(column, item=inner)
        case _ if rule.takes_scalars:
            return column
    if selected is None:
        vanished.append(FieldPath(place))
    return selected


def _without_metadata(rescued: pa.StringArray) -> pa.StringArray:
    rows = pc.fill_null(pc.match_substring(rescued, f'"/{METADATA}'), False)
    if not pc.any(rows).as_py():
        return rescued
    left: list[bytes | None] = []
    for text in rescued.filter(rows).cast(pa.binary()).to_pylist():
        values = {place: value for place, value in decode(text).items() if tokens(place)[0] != METADATA}
        left.append(encode_sorted(values) if values else None)
    return pc.replace_with_mask(rescued, rows, pa.array(left, pa.string()))


def _without_misfits_in_text(answers: pa.StringArray, rescued: pa.StringArray, column: Column) -> pa.StringArray:
    rows = pc.and_(answers.is_valid(), rescued.is_valid())
    if not pc.any(rows).as_py():
        return answers
    values = [decode(text) for text in answers.filter(rows).cast(pa.binary()).to_pylist()]
    left = [None if value is MISSING else encode_sorted(value) for value in _without_misfits(values, column)]
    return pc.replace_with_mask(answers, rows, pa.array(left, pa.string()))


def _without_misfits(values: list[Any], column: Column) -> list[Any]:
    """Decoded values without what has no column or does not fit it. What is in them is changed in place: null is left
    for an item of a list. MISSING is for a value that does not fit itself."""
    values = list(values)
    for position, place, _ in column.build(values).misfits:
        if not place:
            values[position] = MISSING
            continue
        *outer, last = tokens(place)
        container = values[position]
        for token in outer:
            container = container[int(token) if isinstance(container, list) else token]
        if isinstance(container, list):
            container[int(last)] = None
        else:
            del container[last]
    return values


def _built(documents: list[JsonObject], column: Object) -> Built:
    if column.fields:
        return column.build(documents)
    misfits = [Misfit(at, pointer(name), document[name]) for at, document in enumerate(documents) for name in document]
    return Built(pa.array([{}] * len(documents), pa.struct([])), misfits)


def _batch(columns: dict[str, pa.Array], column: Object) -> pa.RecordBatch:
    types = {name: inner.arrow_type for name, inner in column.fields.items()}
    schema = pa.schema([(name, types.get(name, array.type)) for name, array in columns.items()])
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
