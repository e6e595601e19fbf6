"""What is chosen of typed rows, by Arrow's kernels: the arrays of a batch, and its absent places.

``unusual`` are the rows of which the arrays alone do not tell what becomes of them.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.content.pseudonyms import MASKED, Replacements
from vv_exports.content.rules import Action, Rule
from vv_exports.content.selected_text import selected_text
from vv_exports.domain.field_paths import ITEMS, Step
from vv_exports.domain.json_text import encode_each_sorted
from vv_exports.snapshots.columns import Column, Json, List, Object
from vv_exports.snapshots.json_pointer import tokens
from vv_exports.snapshots.rebuild import rebuilt

_NOTHING = pa.nulls(1, pa.string())[0]
_RowOf = Callable[[int], int]


def rule_at(place: str, column: Column | None, rule: Rule) -> tuple[Rule, bool]:
    """The rule for a JSON Pointer through typed values, and whether it is that of the place itself, or of an outer one
    that it stands in."""
    for token in tokens(place):
        if rule.action is not Action.INSIDE:
            return rule, False
        step: Step = token
        if isinstance(column, List):
            step, column = ITEMS, column.item
        elif isinstance(column, Object):
            column = column.fields.get(token)
        else:
            column = None
        rule = rule.child(step)
    return rule, True


class SelectedArrays:
    """The selected arrays of one batch. ``rule`` is that of the whole row."""

    def __init__(self, rule: Rule, replacements: Replacements) -> None:
        self._rule = rule
        self._replacements = replacements
        self.unusual: set[int] = set()

    def selected(self, array: pa.Array, column: Column, rule: Rule, row_of: _RowOf = int) -> pa.Array:
        """What is delivered of an array of a column. ``row_of`` gives the row that an element belongs to."""
        if rule.action is Action.KEEP:
            return array
        if rule.action is not Action.INSIDE:
            return self._text(array, column, rule.action, row_of)
        if isinstance(column, Object):
            return self._object(array, column, rule, row_of)
        if isinstance(column, List):
            return self._list(array, column, rule, row_of)
        return self._json(array, rule) if isinstance(column, Json) else array

    def absent(self, absent: pa.ListArray, column: Object) -> pa.ListArray:
        """The pointers in each row that are still of a place that is delivered."""
        if absent.null_count == len(absent):
            return absent
        offsets = _offsets(absent)
        pointers = absent.flatten().dictionary_encode()
        kept, hashed = [], []
        for place in pointers.dictionary.to_pylist():
            rule, is_its_own = rule_at(place, column, self._rule)
            kept.append(rule.action is not Action.DROP and (is_its_own or rule.action is Action.KEEP))
            hashed.append(rule.action is Action.HASH and not is_its_own)
        if any(hashed):  # whether a property is null or absent makes another hash
            where = pc.indices_nonzero(pa.array(hashed).take(pointers.indices))
            starts = offsets.to_pylist()
            self.unusual.update(bisect_right(starts, flat) - 1 for flat in where.to_pylist())
        if all(kept):
            return absent
        keep = pa.array(kept, pa.bool_()).take(pointers.indices)
        counts = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(keep.cast(pa.int32()))])
        kept_offsets = counts.take(offsets)
        is_empty = pc.equal(kept_offsets[1:], kept_offsets[:-1])
        texts = absent.flatten().filter(keep)
        return pa.ListArray.from_arrays(kept_offsets, texts, type=absent.type, mask=is_empty)

    def _object(self, array: pa.StructArray, column: Object, rule: Rule, row_of: _RowOf) -> pa.Array:
        names, arrays = [], []
        for name, child in zip(column.fields, array.flatten(), strict=True):
            inner = rule.child(name)
            if inner.action is not Action.DROP:
                names.append(name)
                arrays.append(self.selected(child, column.fields[name], inner, row_of))
        return pa.StructArray.from_arrays(arrays, names, mask=array.is_null() if array.null_count else None)

    def _list(self, array: pa.ListArray, column: List, rule: Rule, row_of: _RowOf) -> pa.Array:
        offsets = _offsets(array)
        starts: list[int] = []

        def row_of_item(flat: int) -> int:
            if not starts:
                starts.extend(offsets.to_pylist())
            # The last list that starts here: the ones before it with the same start are empty.
            return row_of(bisect_right(starts, flat) - 1)

        items = self.selected(array.flatten(), column.item, rule.child(ITEMS), row_of_item)
        if isinstance(column.item, Json) and rule.child(ITEMS).action is Action.INSIDE:
            items = pc.fill_null(items, "null")  # an item that is left out stays as null
        return pa.ListArray.from_arrays(offsets, items, mask=array.is_null() if array.null_count else None)

    def _json(self, array: pa.StringArray, rule: Rule) -> pa.Array:
        return _of_each_value(
            array, lambda texts: [selected_text(text.encode(), rule, self._replacements) for text in texts]
        )

    def _text(self, array: pa.Array, column: Column, action: Action, row_of: _RowOf) -> pa.Array:
        if isinstance(column, Json):  # the text of null is no value, and has no typed null
            self.unusual.update(map(row_of, pc.indices_nonzero(pc.equal(array, "null")).to_pylist()))
        if action is Action.MASK:
            return pc.if_else(array.is_valid(), MASKED, _NOTHING)

        def hashes(values: list[Any]) -> list[str]:
            if isinstance(column, Json):
                texts = [value.encode() for value in values]
            else:
                texts = encode_each_sorted([rebuilt(value, column) for value in values])
            return [self._replacements.of_text(text, action) for text in texts]

        if not isinstance(column, List | Object):
            return _of_each_value(array, hashes)
        there = array.is_valid()
        found = pa.array(hashes(array.filter(there).to_pylist()), pa.string())
        return pc.replace_with_mask(pa.nulls(len(array), pa.string()), there, found)


def _of_each_value(array: pa.Array, function: Callable[[list[Any]], Sequence[str | bytes | None]]) -> pa.Array:
    """What a function gives for the values, which it is asked for once each; null stays null."""
    encoded = array.dictionary_encode()
    return pa.array(function(encoded.dictionary.to_pylist()), pa.string()).take(encoded.indices)


def _offsets(array: pa.ListArray) -> pa.Array:
    """Where each list begins in ``flatten``, which leaves out what may lie below a null."""
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    return pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
