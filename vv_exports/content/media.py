"""The media that segments are of, and whether they have a line of time: videos have one, pictures have none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.errors import TimelineError
from vv_exports.printable import one_line
from vv_exports.snapshots.store import Snapshot, SnapshotStore

_COLUMNS = ("video_id", "video_name", "segment_id", "start_time", "rescued")


@dataclass
class Medium:
    """A medium with segments. ``has_text``: whether any of them has the field that was asked for."""

    video_id: str
    name: str | None
    has_times: bool
    has_text: bool = False


def media_of(store: SnapshotStore, snapshot: Snapshot, text: str) -> Iterator[Medium]:
    """The media of a snapshot's segments, in their order. ``text`` is a field of the record.

    Raises TimelineError for a segment without a medium, or that does not say when it begins, where others of its medium
    do.
    """
    medium: Medium | None = None
    first: Mapping[str, Any] = {}
    for batch in store.columns(snapshot, "segments", (*_COLUMNS, "metadata_text")):
        texts = _has_text(batch, text).to_pylist()
        for row, has_text in zip(batch.select(_COLUMNS).to_pylist(), texts, strict=True):
            start = row["start_time"]
            if medium is None or medium.video_id != row["video_id"]:
                if medium is not None:
                    yield medium
                medium, first = Medium(row["video_id"], row["video_name"], start is not None), row
            if (start is not None) != medium.has_times:
                raise _without_place(snapshot, row if start is None else first)
            is_no_number = start is None and "/start_time" in (row["rescued"] or "")  # what does not fit is there
            if row["video_id"] is None or is_no_number or (start or 0) < 0:
                raise _without_place(snapshot, row)
            medium.has_text = medium.has_text or has_text
    if medium is not None:
        yield medium


def _has_text(batch: pa.RecordBatch, name: str) -> pa.Array:
    """In which rows a field of the record is. No column is one of ``transcription``."""
    if name in batch.schema.names:
        return pc.fill_null(pc.greater(pc.binary_length(batch.column(name)), 0), False)
    return pc.fill_null(pc.match_substring(batch.column("rescued"), f'"/{name}"'), False)


def _without_place(snapshot: Snapshot, row: Mapping[str, Any]) -> TimelineError:
    of_video = "no video" if row["video_id"] is None else f"the video {one_line(row['video_id'])}"
    return TimelineError(
        f"prompt run {one_line(snapshot.run_id)}: the segment {one_line(str(row['segment_id']))} of {of_video} has no "
        f"place in a video: its start_time is {row['start_time']}. Mend it at the source, or take a format of tables."
    )
