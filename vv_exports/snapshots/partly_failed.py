"""Segments that have a result and are among the failures too: one of their operations failed. Counted while the results
pass, in the memory of some media, however many segments a run has and however many of them failed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_KEYS = ("video_id", "segment_id")
_AT_A_TIME = 65_536


class PartlyFailed:
    """``count`` is how many of the segments that were added are in files of failures. Both are in the order of
    ``video_id``, but for ids that are no text of a column: those few are looked up among themselves."""

    def __init__(self, failures: Sequence[Path]) -> None:
        self.count = 0
        odd = [keys.filter(pc.is_null(keys.column("video_id"))) for keys in _keys_in(failures)]
        self._odd = pa.concat_arrays([_pairs(one) for one in odd]) if odd else pa.array([], pa.string())
        self._failures = filter(len, (keys.filter(pc.is_valid(keys.column("video_id"))) for keys in _keys_in(failures)))
        self._failed: list[pa.RecordBatch] = []
        self._has_more = True
        self._held: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, segments: pa.RecordBatch) -> None:
        """Add segments. They are held until they are some: each time, the failures of their media are gone through."""
        keys = segments.select(_KEYS)
        video = keys.column("video_id")
        if video.null_count and len(self._odd):
            self.count += _in(keys.filter(pc.is_null(video)), self._odd)
        if not self._has_more and not self._failed:
            return
        self._held.append(keys.filter(pc.is_valid(video)) if video.null_count else keys)
        self._rows += self._held[-1].num_rows
        if self._rows >= _AT_A_TIME:
            self._count_held()

    def finish(self) -> int:
        """The count, once all were added."""
        self._count_held()
        return self.count

    def _count_held(self) -> None:
        held, self._held, self._rows = [one for one in self._held if one.num_rows], [], 0
        if not held:
            return
        first, last = held[0].column("video_id")[0], held[-1].column("video_id")[-1]
        self._failed = [one for one in self._failed if not _less(one.column("video_id")[-1], first)]
        while self._has_more and (not self._failed or not _less(last, self._failed[-1].column("video_id")[-1])):
            following = next(self._failures, None)
            if following is None:
                self._has_more = False
            elif not _less(following.column("video_id")[-1], first):
                self._failed.append(following)
        if self._failed:
            failed = pa.concat_arrays([_pairs(one) for one in self._failed])
            self.count += sum(_in(one, failed) for one in held)


def _in(segments: pa.RecordBatch, failed: pa.StringArray) -> int:
    return pc.sum(pc.is_in(_pairs(segments), failed)).as_py() or 0


def _less(one: pa.StringScalar, other: pa.StringScalar) -> bool:
    """By code points, as rows are ordered: UTF-8 has their order."""
    return bytes(one.as_buffer()) < bytes(other.as_buffer())


def _pairs(keys: pa.RecordBatch) -> pa.StringArray:
    video, segment = (pc.fill_null(keys.column(name), "") for name in _KEYS)
    lengths = pc.binary_length(video).cast(pa.string())  # so that no two pairs are one text
    return pc.binary_join_element_wise(lengths, video, segment, " ")


def _keys_in(failures: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    for path in failures:
        with pq.ParquetFile(path) as opened:
            yield from opened.iter_batches(_AT_A_TIME, columns=list(_KEYS), use_threads=False)
