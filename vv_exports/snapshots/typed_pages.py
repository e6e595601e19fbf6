"""Pages of results as typed rows: their text straight to columns as far as the table's types take it, and line by line
through decoded documents where they do not. ``Table.batch`` is the definition of what a row is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import msgspec
import pyarrow as pa

from vv_exports.domain.json_text import (
    encode_each_of_structs,
    encode_each_sorted,
    has_unusual_numbers,
    typed_decoder,
    with_room_to_encode,
)
from vv_exports.domain.prompt_runs import VOLATILE, JsonObject, PromptRun
from vv_exports.snapshots.tables import Table, prepare, stated_of
from vv_exports.snapshots.typed_values import TypedObject
from vv_exports.sources.base import Page, TextPage
from vv_exports.sources.documents import RULES

ANSWER = "answer"
"""The ``metadata`` of each row as canonical JSON text, as the model answered it: a column after the table's own."""
DOCUMENT = "document"
"""Each row's whole document as canonical JSON text, where that is asked for."""

_STRETCH_BYTES = 4 << 20
_PAGES_NOT_TRIED = 15
_MOST_PIECES = 128
_MOST_ROWS = 8_192


class TypedPages:
    """The rows of one table of a run, as batches that have the columns of ``schema``."""

    def __init__(self, table: Table, run: PromptRun, *, documents: bool = False) -> None:
        self._table = table
        self._run = run
        self._more = [*([ANSWER] if table.has_answers else ()), *([DOCUMENT] if documents else ())]
        self.schema = pa.schema([*table.schema, *(pa.field(name, pa.string()) for name in self._more)])
        # A document is made from text alone where nobody asks for it.
        self._types = None if documents else _types_of(table)
        self._stated = stated_of(run, table.name)
        self._is_first = True
        self._never_there: frozenset[str] = frozenset()
        self._not_tried = 0

    def batches(self, pages: Iterator[Page]) -> Iterator[pa.RecordBatch]:
        """The rows, in their order. Raises SourceDataError for a document that is not what it must be.

        To type a few documents costs for each column, as much as hundreds of rows: rows wait until they are some, or
        many others came."""
        held: list[_Part] = []
        rows = documents = size = 0
        for part in self._parts(pages):
            held.append(part)
            rows += part.rows
            documents += len(part.documents)
            size += part.size
            del part  # a row may be large
            if not documents or documents >= self._table.column.width or rows >= _MOST_ROWS or size >= _STRETCH_BYTES:
                yield self._merged(held)
                rows = documents = size = 0
        if held:
            yield self._merged(held)

    def _parts(self, pages: Iterator[Page]) -> "Iterator[_Part]":
        """The rows of as many pages as have so many rows as the table has columns, or are long: small pages are best,
        but to type a few rows costs for each column."""
        held: list[_Decoded] = []
        rows = size = 0
        for page in pages:
            held.append(self._decoded(page))
            rows += page.rows
            size += held[-1].size
            del page  # else its text is there while the next one is read
            if rows >= self._table.column.width or size >= _STRETCH_BYTES:
                yield from self._typed(held)
                rows = size = 0
        yield from self._typed(held)

    def _typed(self, held: "list[_Decoded]") -> "Iterator[_Part]":
        """What was decoded, its values typed; then it is not held any more."""
        groups = [_joined(list(group)) for _, group in groupby(held, lambda one: id(one.types))]
        held.clear()
        groups.reverse()
        while groups:
            decoded = groups.pop()
            taken = decoded.rows - len(decoded.refused)
            values = self._of_values(decoded.types, decoded.columns, taken) if decoded.types and taken else None
            part = _Part(values, decoded.refused, decoded.documents, decoded.size)
            del decoded, values
            if part.rows:
                yield part
            del part

    def _merged(self, held: "list[_Part]") -> pa.RecordBatch:
        """All of these rows; then they are not held any more."""
        values = [part.values for part in held if part.values is not None]
        documents = list(chain.from_iterable(part.documents for part in held))
        refused: list[int] = []
        before = 0
        for part in held:
            refused += [before + row for row in part.refused]
            before += part.rows
        held.clear()
        if not documents:
            return _one(values)
        typed = self._of_documents(documents)
        del documents
        return _with_rows(_one(values), typed, refused) if values else typed

    def _of_values(self, types: TypedObject, columns: Sequence[Sequence[Any]], rows: int) -> pa.RecordBatch:
        batch = self._table.of_built(types.built(columns, rows), rows, self._run)
        if not self._more:
            return batch
        text, ends = encode_each_of_structs(types.column(columns, "metadata"))
        return self._with(batch, pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(text)))

    def _of_documents(self, documents: list[JsonObject]) -> pa.RecordBatch:
        batch = self._table.batch(documents, self._run)
        texts = []
        if ANSWER in self._more:
            texts.append(encode_each_sorted([document["metadata"] for document in documents]))
        if DOCUMENT in self._more:
            texts.append(encode_each_sorted(documents))
        return self._with(batch, *(pa.array(column, pa.string()) for column in texts))

    def _with(self, batch: pa.RecordBatch, *more: pa.StringArray) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([*batch.columns, *more], schema=self.schema)

    def _decoded(self, page: Page) -> "_Decoded":
        if isinstance(page, TextPage) and self._types is not None:
            if self._not_tried == 0:
                found = self._decoded_text(page, self._types)
                if 2 * len(found.refused) > found.rows:  # so are the next ones
                    self._not_tried = _PAGES_NOT_TRIED
                return found
            self._not_tried -= 1
        documents = with_room_to_encode(lambda: page.documents)
        prepare(documents, self._run, self._table.name)
        return _Decoded(None, [], list(range(len(documents))), documents, _size_of(page))

    def _decoded_text(self, page: TextPage, types: "_Types") -> "_Decoded":
        text = b"\n".join(page.lines) if len(page.lines) > 1 else page.lines[0]  # of one line, no copy
        exact = not has_unusual_numbers(text)
        del text
        typed = types.of(exact, self._never_there)
        values, refused = _taken(page.lines, typed.decoder)
        if refused and self._never_there:
            strange = [page.lines[row] for row in refused]
            if _taken(strange, types.of(exact, frozenset()).decoder)[0]:  # one has a field that none had
                fewer = _not_named(self._never_there, strange)
                self._never_there = fewer if fewer != self._never_there else frozenset()
                typed = types.of(exact, self._never_there)
                values, refused = _taken(page.lines, typed.decoder)
        columns = typed.types.columns(values)
        if self._is_first and values:
            self._is_first = False
            # Null in each row is not the same as never there, but the values are.
            self._never_there = _not_named(typed.never_there(columns), page.lines)
        return self._checked(page, typed, values, columns, refused)

    def _checked(
        self,
        page: TextPage,
        typed: "_TypedTable",
        values: Sequence[Any],
        columns: Sequence[Sequence[Any]],
        refused: list[int],
    ) -> "_Decoded":
        """With the rows of other ids among those that are refused, and the documents of these."""
        strange = self._strange(typed.types, columns)
        if strange:
            taken = sorted(set(range(page.rows)).difference(refused))
            refused = sorted([*refused, *(taken[i] for i in strange)])
            columns = typed.types.columns([value for i, value in enumerate(values) if i not in strange])
        if not refused:
            return _Decoded(typed.types, columns, [], [], _size_of(page))
        lines = [page.lines[row] for row in refused]
        documents = with_room_to_encode(lambda: page.read(lines, lambda i: page.locate(refused[i])))
        prepare(documents, self._run, self._table.name)
        return _Decoded(typed.types, columns, refused, documents, _size_of(page))

    def _strange(self, types: TypedObject, columns: Sequence[Sequence[Any]]) -> set[int]:
        """The values that state other ids than those of the run."""
        strange: set[int] = set()
        for name, own in self._stated.items():
            if name in types.names:
                found = types.column(columns, name)
                if found.count(own) != len(found):
                    strange.update(i for i, value in enumerate(found) if value is not None and value != own)
        return strange


@dataclass(frozen=True)
class _Decoded:
    """Rows on their way to columns. The values of ``types`` are in ``columns``; ``refused`` are the rows that are
    ``documents`` instead, counted among all."""

    types: TypedObject | None
    columns: Sequence[Sequence[Any]]
    refused: list[int]
    documents: list[JsonObject]
    size: int

    @property
    def rows(self) -> int:
        return (len(self.columns[0]) if self.columns else 0) + len(self.refused)


@dataclass(frozen=True)
class _Part:
    """The same with typed values. ``size`` is in bytes of text."""

    values: pa.RecordBatch | None
    refused: list[int]
    documents: list[JsonObject]
    size: int

    @property
    def rows(self) -> int:
        return (0 if self.values is None else self.values.num_rows) + len(self.refused)


def _joined(group: "list[_Decoded]") -> _Decoded:
    """Consecutive rows of the same types as one."""
    if len(group) == 1:
        return group[0]
    refused: list[int] = []
    before = 0
    for one in group:
        refused += [before + row for row in one.refused]
        before += one.rows
    columns = [list(chain.from_iterable(parts)) for parts in zip(*(one.columns for one in group), strict=True)]
    documents = list(chain.from_iterable(one.documents for one in group))
    return _Decoded(group[0].types, columns, refused, documents, sum(one.size for one in group))


def _not_named(names: frozenset[str], lines: Sequence[bytes]) -> frozenset[str]:
    """Those of the names that no line has anywhere, as they are usually written."""
    text = b"\n".join(lines)
    return frozenset(name for name in names if f'"{name}"'.encode() not in text)


def _size_of(page: Page) -> int:
    return sum(map(len, page.lines)) if isinstance(page, TextPage) else _STRETCH_BYTES // 16


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _with_rows(values: pa.RecordBatch, documents: pa.RecordBatch, refused: Sequence[int]) -> pa.RecordBatch:
    """The rows of ``documents`` in the places ``refused``, those of ``values`` in the others."""
    if len(refused) > _MOST_PIECES:
        places: list[int] = []
        for i, row in enumerate(refused):
            places += range(len(places) - i, row - i)
            places.append(values.num_rows + i)
        places += range(len(places) - len(refused), values.num_rows)
        return pa.concat_batches([values, documents]).take(pa.array(places, pa.int64()))
    pieces = []
    at = 0
    for i, row in enumerate(refused):
        pieces += [values.slice(at, row - i - at), documents.slice(i, 1)]
        at = row - i
    return pa.concat_batches([*pieces, values.slice(at)])


def _taken(lines: Sequence[bytes], decoder: "msgspec.json.Decoder[Any]") -> tuple[list[Any], list[int]]:
    """The values of the lines that a decoder takes, and the numbers of those that it refuses."""
    return with_room_to_encode(lambda: _take(lines, decoder))


def _take(lines: Sequence[bytes], decoder: "msgspec.json.Decoder[Any]") -> tuple[list[Any], list[int]]:
    values: list[Any] = []
    refused: list[int] = []
    left = iter(lines)
    while True:
        try:
            values.extend(map(decoder.decode, left))
        except (ValueError, RecursionError):
            refused.append(len(values) + len(refused))
        else:
            return values, refused


class _TypedTable:
    """The types of a table's documents without fields that none has, and their decoder."""

    def __init__(self, table: Table, *, exact: bool, without: frozenset[str]) -> None:
        required = {rule.field: str if str in rule.types else dict for rule in RULES[table.name] if rule.is_required}
        # Not Raw, which takes bytes that are no UTF-8 and numbers that nobody can read.
        ignored: dict[str, Any] = dict.fromkeys(VOLATILE, Any)
        ignored |= dict.fromkeys(_STATED, str | None)
        self._optional = {*table.column.fields, *ignored} - required.keys()
        self.types = TypedObject(
            table.column,
            exact=exact,
            absence_is_null=True,
            required=required,
            ignored={name: kind for name, kind in ignored.items() if name not in without},
            without=without,
        )
        self.decoder = typed_decoder(self.types.struct)

    def never_there(self, columns: Sequence[Sequence[Any]]) -> frozenset[str]:
        """The fields that none of these values has."""
        return frozenset(
            name
            for name, values in zip(self.types.names, columns, strict=True)
            if name in self._optional and values.count(None) == len(values)
        )


_STATED = ("run_id", "prompt_run_id", "prompt_id", "index_id", "result_type")


class _Types:
    """Those of one table, made when they are needed: the runs of a prompt share them."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._known: dict[tuple[bool, frozenset[str]], _TypedTable] = {}

    def of(self, exact: bool, without: frozenset[str]) -> _TypedTable:
        """Where not ``exact``, the numbers in a text may be ones that doubles do not tell."""
        key = exact, without
        if key not in self._known:
            self._known[key] = _TypedTable(self.table, exact=exact, without=without)
        return self._known[key]


_KNOWN: dict[int, _Types] = {}
_MOST_KNOWN = 256


def _types_of(table: Table) -> _Types:
    """Kept with the table itself: while it is here, no other one has its id. Several threads read runs at a time."""
    known = _KNOWN.get(id(table))
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[id(table)] = _Types(table)
    return known
