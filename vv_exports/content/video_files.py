"""The segments of a snapshot as files of one video each: captions for players, markers for editors."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.connectors.spool import make_room, nothing_to_wait_for, spool_folder
from vv_exports.content.files import ForeseenFile, LocalFile, TableFiles, foreseen_by_making
from vv_exports.content.media import media_of
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.destinations import video_stem
from vv_exports.domain.field_rules import NEEDED_OF_VIDEOS
from vv_exports.domain.tables import RunTable
from vv_exports.errors import TimelineError, first_few
from vv_exports.formats.base import TableWriter
from vv_exports.formats.registry import check_installed, formats_of_video
from vv_exports.formats.videos import CUES, Video
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.store import Rows, Snapshot, SnapshotStore
from vv_exports.snapshots.tables import RUN_COLUMNS

_OF_VIDEO = "of_video"
_SHOWN_ID = "shown_id"
_SHOWN_NAME = "shown_name"
_NAMED = 5
_TEXT = pa.string()
_LOG = logging.getLogger(__name__)


class VideoFiles(TableFiles):
    """The files of the segments of a snapshot, one after the other, as their rows are in the order of their videos. A
    medium whose segments have no times, as pictures have none, has no file."""

    def __init__(self, snapshot: Snapshot, table: RunTable, options: ContentOptions, key: bytes | None = None) -> None:
        super().__init__(snapshot, table, None, _with_what_is_needed(options), key)

    def check(self, store: SnapshotStore) -> None:
        """Raise RequestError where what makes the files is not installed; TimelineError where a segment has no place in
        its video, a video that is to have markers no frame rate and start timecode in the configuration, or no segment
        the text that is shown by default. Looks at the columns that tell it."""
        check_installed(self._options)
        chosen = self._options.format
        has_text = chosen.text is not None or not chosen.texts
        untimed: dict[str, str | None] = {}
        without_times = media = 0
        for medium in media_of(store, self._snapshot, chosen.default_text):
            media += 1
            has_text = has_text or medium.has_text
            if not medium.has_times:
                without_times += 1
            elif not self._has_timing(medium.video_id):
                untimed[medium.video_id] = medium.name
        if untimed:
            named = first_few([self._named(video_id, name) for video_id, name in untimed.items()], _NAMED)
            raise TimelineError(
                f"prompt run {one_line(self._snapshot.run_id)} has videos without a frame rate or a start timecode: "
                f"{', '.join(named)}. Neither is guessed: say frame_rate and start_timecode in format, for all videos "
                "or in videos by their ids."
            )
        if media > without_times and not has_text:
            raise TimelineError(
                f"prompt run {one_line(self._snapshot.run_id)}: none of its segments has a {chosen.default_text}, "
                "which is shown where nothing else is chosen. Say in format what is, as in "
                f"{{name: {chosen.name}, text: [metadata.title]}}."
            )
        if without_times:
            _LOG.warning(
                "prompt run %s: no %s of %s without times, such as pictures",
                one_line(self._snapshot.run_id),
                chosen.folder("segments"),
                counted(without_times, "medium", "media"),
            )

    def make(
        self, store: SnapshotStore, folder: Path, wait: Callable[[], None] = nothing_to_wait_for
    ) -> Iterator[LocalFile]:
        """See ``TableFiles.make``."""
        under_way: _VideoUnderWay | None = None
        try:
            for rows in self._in_order(store):
                if under_way is None or under_way.of_video != rows.of_video:
                    if under_way is not None:
                        yield from under_way.finished()
                    under_way = self._begun(rows, folder)
                make_room(f"a {self._options.format.name} file", wait)
                under_way.write(rows.cues)
            if under_way is not None:
                yield from under_way.finished()
        except BaseException:
            if under_way is not None:
                under_way.abandon()
            raise

    def foreseen(self, store: SnapshotStore) -> list[ForeseenFile]:
        """See ``TableFiles.foreseen``. How many they are, and their names, are known when they are made."""
        with spool_folder() as spool:
            return foreseen_by_making(self.make(store, spool))

    def _encoded(self, rows: Rows) -> pa.RecordBatch:
        """With whose each row is: the video's own id, and what is delivered of its id and name."""
        record = self._selection.record(rows.batch, self._own.column)
        name = record.column("video_name") if "video_name" in record.schema.names else pa.nulls(len(rows.batch), _TEXT)
        cues = super()._encoded(rows)
        told = {_OF_VIDEO: rows.batch.column("video_id"), _SHOWN_ID: record.column("video_id"), _SHOWN_NAME: name}
        for column, values in told.items():
            cues = cues.append_column(column, values)
        return cues

    def _in_order(self, store: SnapshotStore) -> Iterator["_RowsOfVideo"]:
        for part in self._snapshot.tables[self._name]:
            for batch in self._rows(store, part):
                ids = batch.column(_OF_VIDEO)
                runs = pc.run_end_encode(ids)
                start = 0
                for end in runs.run_ends.to_pylist():
                    some = batch.slice(start, end - start)
                    start = end
                    if not some.column("start_time")[0].is_valid:
                        continue  # nor has any other of the medium: it has no line of time
                    first = {name: some.column(name)[0].as_py() for name in (_OF_VIDEO, _SHOWN_ID, _SHOWN_NAME)}
                    yield _RowsOfVideo(first[_OF_VIDEO], first[_SHOWN_ID], first[_SHOWN_NAME], some.select(CUES.names))

    def _begun(self, rows: "_RowsOfVideo", folder: Path) -> "_VideoUnderWay":
        ids = {name: getattr(self._snapshot, name if name != "prompt_run_id" else "run_id") for name in RUN_COLUMNS}
        timing = self._options.format.timing_of(rows.of_video)
        video = Video(rows.shown_id, rows.shown_name, ids, timing)
        return _VideoUnderWay(rows.of_video, video, self._options, folder)

    def _has_timing(self, video_id: str) -> bool:
        timing = self._options.format.timing_of(video_id)
        is_told = timing.frame_rate is not None and timing.start_timecode is not None
        return is_told or self._options.format.name != "markers"

    def _named(self, video_id: str, name: str | None) -> str:
        """For a message, which may go far: without the name where something is not delivered."""
        shown = one_line(video_id)
        return f"{shown} ({one_line(name)})" if name and self._selection.is_everything else shown


class _RowsOfVideo(NamedTuple):
    of_video: str
    shown_id: str
    shown_name: str | None
    cues: pa.RecordBatch


class _VideoUnderWay:
    """The files of one video, which are written side by side."""

    def __init__(self, of_video: str, video: Video, options: ContentOptions, folder: Path) -> None:
        self.of_video = of_video
        self._stem = video_stem(video.video_id, video.name)
        self._rows = 0
        self._writers: list[tuple[Path, TableWriter]] = []
        for one in formats_of_video(options, video):
            path = folder / f"video{one.suffix}"
            self._writers.append((path, one.open(path, CUES)))

    def write(self, cues: pa.RecordBatch) -> None:
        for _, writer in self._writers:
            writer.write(cues)
        self._rows += cues.num_rows

    def finished(self) -> Iterator[LocalFile]:
        """The files: the rows are counted at the first of them."""
        for _, writer in self._writers:
            writer.close()
        for number, (path, writer) in enumerate(self._writers):
            rows = 0 if number else self._rows
            yield LocalFile(path, rows, writer.bytes_written, writer.sha256, path.suffix, self._stem)

    def abandon(self) -> None:
        for _, writer in self._writers:
            writer.abandon()


def _with_what_is_needed(options: ContentOptions) -> ContentOptions:
    """Whatever fields are chosen, a file says of which video it is, and when something is in it."""
    include = options.fields.include
    if include is None:
        return options
    missing = tuple(name for name in NEEDED_OF_VIDEOS if name not in include)
    return replace(options, fields=replace(options.fields, include=(*include, *missing)))
