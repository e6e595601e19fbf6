"""Arrow values as JSON text, a column at a time. It knows nothing of files.

The text is put together by Arrow's string kernels, without a Python object for each value. A value's text is
a list of pieces, constants and string arrays, that one kernel call joins for all rows.
"""

import struct
from itertools import chain

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.errors import SourceDataError

_Pieces = list[str | pa.Array]

# Not made by pa.scalar, which imports pandas where that is installed: a fifth of a second, and 33 MiB in every process.
_NULL = pa.nulls(1, pa.string())[0]
_ESCAPED = bytes(range(32)) + b'"\\'
_ANY_ESCAPED = r'["\\\x00-\x1f]'
_MICROSECONDS = struct.pack("=2q", -62_135_596_800_000_000, 253_402_300_799_999_999)  # of the years 1 and 9999
_FIRST_TIME, _LAST_TIME = pa.Array.from_buffers(pa.timestamp("us", "UTC"), 2, [None, pa.py_buffer(_MICROSECONDS)])
_ENCODER = msgspec.json.Encoder()


def json_objects(rows: pa.RecordBatch, member: tuple[str, pa.Array] | None) -> pa.Array:
    """Each row as a JSON object with every column, in their order, and one more that is JSON text already; where that
    is null, the object has it not."""
    pieces = _object_pieces(rows.to_struct_array())
    if member is not None:
        name, texts = member
        before = f"{',' if rows.num_columns else ''}{_ENCODER.encode(name).decode()}:"
        if texts.null_count:
            more: _Pieces = [pc.fill_null(pc.binary_join_element_wise(before, texts, ""), "")]
        else:
            more = [before, texts]
        pieces[-1:] = [*more, "}"]
    return _concatenated(pieces, rows.num_rows)


def json_text(array: pa.Array) -> pa.Array:
    """Each value as compact JSON in a string array. A null stays null at the top and is ``null`` inside.

    Structs are objects with every field, in field order. Timestamps are ISO 8601 strings in UTC. Raises
    SourceDataError for a number that JSON has not, and TypeError for a type that tables do not use.
    """
    text = _concatenated(_pieces(array), len(array))
    return pc.if_else(array.is_valid(), text, _NULL) if array.null_count else text


def timestamp_text(array: pa.Array) -> pa.Array:
    """UTC timestamps as ``2026-11-23T09:30:00.000000Z``: one width, so that text order is time order."""
    early, late = pc.less(array, _FIRST_TIME), pc.greater(array, _LAST_TIME)
    if pc.any(pc.or_(early, late)).as_py():
        raise SourceDataError("a timestamp lies outside the years 1 to 9999, which ISO 8601 text cannot hold")
    naive = array.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(naive, " ", "T"), "Z", "")


def joined(texts: pa.Array, separator: str) -> pa.Buffer:
    """All values of a string array without nulls as one piece of UTF-8."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    return pc.binary_join(whole, separator)[0].as_buffer()


def _concatenated(pieces: _Pieces, length: int) -> pa.Array:
    if not any(isinstance(piece, pa.Array) for piece in pieces):
        return pa.repeat("".join(map(str, pieces)), length)
    return pc.binary_join_element_wise(*pieces, "")


def _pieces(array: pa.Array) -> _Pieces:
    """What makes up the text of each value, nulls as ``null``."""
    if array.null_count == len(array):
        return ["null"]
    pieces = _pieces_of_valid(array)
    if not array.null_count:
        return pieces
    return [pc.if_else(array.is_valid(), _concatenated(pieces, len(array)), "null")]


def _pieces_of_valid(array: pa.Array) -> _Pieces:
    """The same, with anything in the place of a null."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _object_pieces(array)
    if pa.types.is_list(kind):
        return _array_pieces(array)
    if pa.types.is_string(kind):
        return _string_pieces(array)
    if pa.types.is_timestamp(kind):
        return ['"', timestamp_text(array), '"']
    if pa.types.is_float64(kind):
        return [_float_text(array)]
    if pa.types.is_int64(kind) or pa.types.is_boolean(kind):
        return [array.cast(pa.string())]
    raise TypeError(f"a column of type {kind} has no JSON text: use string, int64, float64, bool, UTC timestamps")


def _object_pieces(array: pa.Array) -> _Pieces:
    names = [_ENCODER.encode(field.name).decode() for field in array.type]
    members = [
        [f"{',' if place else ''}{name}:", *_pieces(member)]
        for place, (name, member) in enumerate(zip(names, array.flatten(), strict=True))
    ]
    return ["{", *chain.from_iterable(members), "}"]


def _array_pieces(array: pa.Array) -> _Pieces:
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(array), 0))
    # ``flatten`` leaves out what may lie below a null list: offsets come from the lengths, not the array.
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    elements = array.flatten()
    texts = _concatenated(_pieces(elements), len(elements))
    return ["[", pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ","), "]"]


def _string_pieces(array: pa.Array) -> _Pieces:
    stored = bytes(_stored_text(array))
    if len(stored.translate(None, _ESCAPED)) == len(stored):
        return ['"', array, '"']
    special = pc.fill_null(pc.match_substring_regex(array, _ANY_ESCAPED), False)
    lines = _ENCODER.encode_lines(array.filter(special).to_pylist()).splitlines()
    # The quotes around these lines are cut off, to be put back with everybody else's.
    inner = pa.array([line[1:-1] for line in lines], pa.string())
    return ['"', pc.replace_with_mask(array, special, inner), '"']


def _stored_text(array: pa.Array) -> pa.Buffer:
    """The values' bytes as they lie one after the other, with whatever lies below nulls."""
    _, offsets, text = array.buffers()
    if text is None:
        return pa.py_buffer(b"")
    starts = memoryview(offsets).cast("i")
    return text[starts[array.offset] : starts[array.offset + len(array)]]


def _float_text(array: pa.Array) -> pa.Array:
    if pc.any(pc.invert(pc.is_finite(array))).as_py():
        raise SourceDataError("a number is NaN or infinite, which JSON and CSV cannot hold")
    text = array.cast(pa.string())
    if not pc.any(pc.equal(array, pc.trunc(array))).as_py():
        return text
    # Arrow writes 2.0 as ``2``, which a reader would take for an integer.
    return pc.replace_substring_regex(text, r"^(-?\d+)$", r"\1.0")
