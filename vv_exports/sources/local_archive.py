"""An archive of prompt runs in files, wherever fsspec can read: the format is in docs/archive-format.md.

It reads and refuses, and repairs nothing. It must not know what is made of the results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import NoneType
from typing import Any
from urllib.parse import quote, unquote

from vv_exports.domain.json_text import decode
from vv_exports.domain.prompt_runs import Index, JsonObject, JsonValue, Prompt, PromptRun, RunStatus
from vv_exports.errors import NotFoundError, SourceDataError
from vv_exports.sources.archive_files import BOM, COMPRESSIONS, ArchiveFiles
from vv_exports.sources.base import Page

_NAMED = 10
_SHORT = 80
_COUNTERS = (
    "total_segments",
    "completed_segments",
    "video_level_completed_items",
    "video_level_partial_items",
)


@dataclass(frozen=True)
class _Rule:
    """What a field of every document in a file must be."""

    field: str
    types: frozenset[type]
    expected: str
    may_be_empty: bool = True


_METADATA = _Rule("metadata", frozenset({dict}), "an object")
_METADATA_TEXT = _Rule("metadata_text", frozenset({str, NoneType}), "a string")
_SEGMENT_ID = _Rule("segment_id", frozenset({str}), "a non-empty string", may_be_empty=False)
_VIDEO_ID = _Rule("video_id", frozenset({str}), "a non-empty string", may_be_empty=False)

_SEGMENT_RESULT = (_SEGMENT_ID, _METADATA, _METADATA_TEXT)
_VIDEO_RESULT = (_VIDEO_ID, _METADATA, _METADATA_TEXT)
_FAILED_SEGMENT = (_SEGMENT_ID, _VIDEO_ID)


class LocalArchive:
    """The archive below a folder: a path, or any fsspec URL.

    Nothing is read before it is asked for, and nothing is remembered between two calls. Raises RequestError
    where fsspec cannot open such a URL here.
    """

    def __init__(self, path_or_url: str) -> None:
        self._files = ArchiveFiles(path_or_url)

    def indexes(self) -> list[Index]:
        """All indexes, by id. A folder without ``index.json`` is not an index yet."""
        found = self._folders("indexes", "index.json")
        if found is None:
            raise self._no_archive()
        return sorted((self._index(folder, data) for folder, data in found), key=lambda index: index.index_id)

    def index(self, index_id: str) -> Index:
        """One index. Raises NotFoundError with the indexes that there are."""
        folder = _folder_name(index_id)
        data = self._files.read(f"indexes/{folder}/index.json")
        if data is not None:
            return self._index(folder, data)
        found = self._folders("indexes", "index.json")
        if found is None:
            raise self._no_archive()
        wanted = self._files.show(f"indexes/{folder}/index.json")
        raise NotFoundError(
            f"There is no index {index_id!r}: {wanted} does not exist (a folder's name is its id, percent-encoded). "
            f"The archive has the folders {_first_few(sorted(folder for folder, _ in found), ', ') or '(none)'}."
        )

    def prompt_runs(self, index_id: str) -> list[PromptRun]:
        """All runs of an index, in the order (executed_at, run_id).

        A folder without ``prompt_run.json`` is not a run yet. A broken ``prompt_run.json`` makes the listing
        fail, naming all broken ones: left out, its run would be missing from every export unnoticed. The
        other runs can still be read one by one.
        """
        self.index(index_id)
        runs: list[PromptRun] = []
        broken: list[str] = []
        for folder, data in self._folders(_runs_of(index_id), "prompt_run.json") or ():
            try:
                runs.append(self._run(index_id, folder, data))
            except SourceDataError as error:
                broken.append(str(error))
        if broken:
            raise SourceDataError(_first_few(broken, "\n"))
        return sorted(runs, key=lambda run: (run.executed_at, run.run_id))

    def prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        """One run, read now. Raises NotFoundError."""
        folder = _folder_name(run_id)
        path = f"{_runs_of(index_id)}/{folder}/prompt_run.json"
        data = self._files.read(path)
        if data is None:
            self.index(index_id)
            raise NotFoundError(
                f"Index {index_id!r} has no prompt run {run_id!r}: {self._files.show(path)} does not exist. "
                f"`vv-exports runs list {index_id}` shows the runs that there are."
            )
        return self._run(index_id, folder, data)

    def change_hint(self, run: PromptRun) -> JsonValue:
        """Size and version (or time of the last change) of every file in the run's folder, by name."""
        return self._files.versions(_run_path(run))

    def prompt(self, run: PromptRun) -> Prompt:
        """The prompt in the run's folder."""
        path = f"{_run_path(run)}/prompt.json"
        where = self._files.show(path)
        data = self._files.read(path)
        if data is None:
            raise SourceDataError(f"{where} does not exist: every run folder holds the prompt as it was")
        record = _object(data, where)
        if record.get("prompt_id") != run.prompt_id:
            found = _found(record, "prompt_id")
            raise SourceDataError(f"{where}: expected the run's prompt_id {run.prompt_id!r}, found {found}")
        video_level = record.get("video_level")
        return Prompt(
            prompt_id=run.prompt_id,
            name=_text(record, "name", where),
            prompt_text=_text(record, "prompt_text", where, may_be_empty=True),
            json_schema=_schema(record, where),
            video_level_schema=None if video_level is None else _schema(video_level, f"{where}, video_level"),
        )

    def segment_results(self, run: PromptRun) -> Iterator[Page]:
        """The run's segment results in the order of the file, about 4 MiB of text a page."""
        stated = run.count("completed_segments")
        if (path := self._results(run, "segment_results")) is None:
            if run.deliverable and stated != 0:
                raise self._missing(run, "segment_results", "segment results")
            return
        yield from self._checked(path, run, _SEGMENT_RESULT, "completed_segments", stated)

    def video_results(self, run: PromptRun) -> Iterator[Page]:
        """The run's video results in the order of the file, about 4 MiB of text a page."""
        stated = run.count("video_level_completed_items")
        if stated is not None:
            stated += run.count("video_level_partial_items") or 0
        if (path := self._results(run, "video_results")) is None:
            if run.deliverable and stated:
                raise self._missing(run, "video_results", "video results")
            return
        if self.prompt(run).video_level_schema is None:
            raise SourceDataError(
                f"{self._files.show(path)} holds video results, but the prompt.json beside it has no video_level"
            )
        counters = "video_level_completed_items + video_level_partial_items"
        yield from self._checked(path, run, _VIDEO_RESULT, counters, stated)

    def failed_segments(self, run: PromptRun) -> Iterator[Page]:
        """The run's failed segments, flattened where they are in the SDK's manifest."""
        if (path := self._results(run, "failed_segments", ".json")) is None:
            return
        total, completed = run.count("total_segments"), run.count("completed_segments")
        # A run that stopped early has segments that neither completed nor failed.
        stated = total - completed if run.deliverable and total is not None and completed is not None else None
        counters = "total_segments - completed_segments"
        yield from self._checked(path, run, _FAILED_SEGMENT, counters, stated)

    def _checked(
        self, path: str, run: PromptRun, rules: Sequence[_Rule], counters: str, stated: int | None
    ) -> Iterator[Page]:
        """The file's pages, each checked; after the last one, their number against the run's record."""
        found = 0
        for page in self._manifest(path, run) if path.endswith(".json") else self._files.pages(path):
            _check(page, run, rules)
            found += len(page.documents)
            yield page
        if stated is not None and found != stated:
            raise SourceDataError(
                f"{self._files.show(path)} holds {found} documents, but the prompt_run.json beside it states "
                f"{counters} = {stated}: write the file that does not tell the truth again"
            )

    def _manifest(self, path: str, run: PromptRun) -> Iterator[Page]:
        """The documents of ``failed_segments.json``, in one page."""
        where = self._files.show(path)
        record = _object(self._files.read(path) or b"", where)
        if record.get("run_id", run.run_id) != run.run_id:
            raise SourceDataError(f"{where}: expected run_id {run.run_id!r}, found {_short(record['run_id'])}")
        documents: list[Any] = []
        places: list[str] = []
        for v, video in enumerate(_array(record, "videos", where)):
            place = f"{where}, videos[{v}]"
            for s, segment in enumerate(_array(video, "segments", place)):
                documents.append(_failed_segment(video, segment, f"{place}.segments[{s}]"))
                places.append(f"{place}.segments[{s}]")
        stated = record.get("failed_segments", len(documents))
        if stated != len(documents):
            raise SourceDataError(
                f"{where} lists {len(documents)} segments, but its failed_segments is {_short(stated)}"
            )
        yield Page(documents, places.__getitem__)

    def _results(self, run: PromptRun, stem: str, *others: str) -> str | None:
        """The one file of the run with this stem, None where there is none."""
        names = set(self._files.names(_run_path(run)) or ())
        found = [stem + suffix for suffix in (*COMPRESSIONS, *others) if stem + suffix in names]
        if len(found) > 1:
            raise SourceDataError(
                f"{self._files.show(_run_path(run))} holds {' and '.join(found)}: "
                "keep the one that is right, delete the other"
            )
        return f"{_run_path(run)}/{found[0]}" if found else None

    def _missing(self, run: PromptRun, stem: str, what: str) -> SourceDataError:
        where = self._files.show(f"{_run_path(run)}/{stem}.jsonl")
        return SourceDataError(
            f"{where} does not exist, nor with .zst or .gz, but the run is {run.status} "
            f"and the prompt_run.json beside it does not say that it has no {what}"
        )

    def _no_archive(self) -> NotFoundError:
        return NotFoundError(
            f"There is no archive at {self._files.show('')}: it has no folder 'indexes'. "
            "Check source.path in the configuration, or run `vv-exports demo` for an archive to try."
        )

    def _folders(self, parent: str, record: str) -> list[tuple[str, bytes]] | None:
        """The folders that hold the record, with its text. None where the parent does not exist."""
        names = self._files.names(parent)
        if names is None:
            return None
        texts = self._files.read_all([f"{parent}/{name}/{record}" for name in names])
        return [(name, text) for name, text in zip(names, texts, strict=True) if text is not None]

    def _index(self, folder: str, data: bytes) -> Index:
        where = self._files.show(f"indexes/{folder}/index.json")
        record = _object(data, where)
        description = record.get("description")
        if not isinstance(description, str | None):
            raise SourceDataError(f"{where}: expected description to be a string, found {_short(description)}")
        return Index(_own_id(record, "index_id", folder, where), _text(record, "name", where), description)

    def _run(self, index_id: str, folder: str, data: bytes) -> PromptRun:
        where = self._files.show(f"{_runs_of(index_id)}/{folder}/prompt_run.json")
        record = _object(data, where)
        for counter in _COUNTERS:
            value = record.get(counter, 0)
            if value is not None and (type(value) is not int or value < 0):
                raise SourceDataError(f"{where}: expected {counter} to be a count, found {_short(value)}")
        return PromptRun(
            run_id=_own_id(record, "run_id", folder, where),
            index_id=index_id,
            prompt_id=_text(record, "prompt_id", where),
            prompt_name=_text(record, "prompt_name", where),
            status=_status(record, where),
            executed_at=_time(record, "executed_at", where),
            record=record,
        )


def _check(page: Page, run: PromptRun, rules: Sequence[_Rule]) -> None:
    """Refuse the first document that is not what it must be. One pass for each field: a run has millions."""
    documents = page.documents
    if set(map(type, documents)) - {dict}:
        bad = next(i for i, document in enumerate(documents) if type(document) is not dict)
        raise SourceDataError(f"{page.locate(bad)}: expected a JSON object, found {_short(documents[bad])}")
    for rule in rules:
        values = [document.get(rule.field) for document in documents]
        if not set(map(type, values)) <= rule.types or not (rule.may_be_empty or all(values)):
            bad = next(i for i, v in enumerate(values) if type(v) not in rule.types or not (rule.may_be_empty or v))
            found = _found(documents[bad], rule.field)
            raise SourceDataError(f"{page.locate(bad)}: expected {rule.field} to be {rule.expected}, found {found}")
    for field, own in (("run_id", run.run_id), ("prompt_run_id", run.run_id), ("prompt_id", run.prompt_id)):
        values = [document.get(field, own) for document in documents]
        if values.count(own) != len(values):
            for i, value in enumerate(values):
                if value is not None and value != own:
                    raise SourceDataError(
                        f"{page.locate(i)}: expected {field} to be the run's, {own!r}, found {_short(value)}"
                    )


def _failed_segment(video: JsonObject, segment: Any, where: str) -> Any:
    """A manifest's segment with its video's id in it, as it would stand in a line of its own."""
    if not isinstance(segment, dict) or segment.get("video_id", video.get("video_id")) != video.get("video_id"):
        raise SourceDataError(
            f"{where}: expected an object with the video_id of its video, {_found(video, 'video_id')}, "
            f"found {_short(segment)}"
        )
    return {"video_id": video.get("video_id"), **segment}


def _object(data: bytes, where: str) -> JsonObject:
    try:
        value = decode(data.removeprefix(BOM))
    except ValueError as error:
        raise SourceDataError(f"{where}: expected one JSON document: {error}") from error
    return _as_object(value, where)


def _as_object(value: Any, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise SourceDataError(f"{where}: expected a JSON object, found {_short(value)}")
    return value


def _array(value: Any, field: str, where: str) -> list[Any]:
    array = _as_object(value, where).get(field)
    if not isinstance(array, list):
        raise SourceDataError(f"{where}: expected {field} to be an array, found {_found(value, field)}")
    return array


def _text(record: JsonObject, field: str, where: str, *, may_be_empty: bool = False) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not (value or may_be_empty):
        kind = "a string" if may_be_empty else "a non-empty string"
        raise SourceDataError(f"{where}: expected {field} to be {kind}, found {_found(record, field)}")
    return value


def _own_id(record: JsonObject, field: str, folder: str, where: str) -> str:
    """The record's id, which must be the one that its folder stands for."""
    value = _text(record, field, where)
    if _folder_name(value) != folder:
        raise SourceDataError(
            f"{where}: the folder {folder!r} stands for {unquote(folder)!r}, but {field} is {value!r}: "
            f"rename the folder to {_folder_name(value)!r} or mend the {field}"
        )
    return value


def _schema(value: Any, where: str) -> Any:
    schema = _as_object(value, where).get("json_schema")
    if schema is None:
        raise SourceDataError(
            f"{where}: expected json_schema to be a JSON Schema ({{}} where there is none), "
            f"found {_found(value, 'json_schema')}"
        )
    return schema


def _status(record: JsonObject, where: str) -> RunStatus:
    try:
        return RunStatus(record.get("status", ""))
    except ValueError:
        known = ", ".join(RunStatus)
        raise SourceDataError(
            f"{where}: expected status to be one of {known}; found {_found(record, 'status')}"
        ) from None


def _time(record: JsonObject, field: str, where: str) -> datetime:
    """An aware time in UTC; a time without an offset is meant as UTC."""
    text = _text(record, field, where)
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SourceDataError(
            f"{where}: expected {field} to be an ISO 8601 time such as 2026-09-14T08:30:00Z, found {_short(text)}"
        ) from None


def _folder_name(an_id: str) -> str:
    name = quote(an_id, safe="~", errors="surrogatepass")
    return name.replace(".", "%2E") if name in {".", ".."} else name


def _runs_of(index_id: str) -> str:
    return f"indexes/{_folder_name(index_id)}/prompt_runs"


def _run_path(run: PromptRun) -> str:
    return f"{_runs_of(run.index_id)}/{_folder_name(run.run_id)}"


def _found(record: JsonObject, field: str) -> str:
    return _short(record[field]) if field in record else "nothing"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHORT else text[:_SHORT] + "…"


def _first_few(items: list[str], separator: str) -> str:
    more = [f"and {len(items) - _NAMED} more"] if len(items) > _NAMED else []
    return separator.join(items[:_NAMED] + more)
