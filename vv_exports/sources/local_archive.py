"""An archive of prompt runs in files, wherever fsspec can read: the format is in docs/archive-format.md.

It reads and refuses, and repairs nothing. It must not know what is made of the results.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote, unquote
from weakref import WeakValueDictionary

from vv_exports.domain.findings import Finding
from vv_exports.domain.json_text import decode, nests_deeper
from vv_exports.domain.prompt_runs import Index, JsonObject, JsonValue, Prompt, PromptRun
from vv_exports.domain.tables import TableName
from vv_exports.errors import NotFoundError, SourceDataError, VVExportsError, first_few
from vv_exports.printable import counted, one_line
from vv_exports.sources.archive_files import BOM, COMPRESSIONS, ArchiveFiles, Check
from vv_exports.sources.base import DocumentPage, Effort, Listing, Page, Results, Stage, UnreadableRun
from vv_exports.sources.check import check_indexes
from vv_exports.sources.documents import (
    Limits,
    as_object,
    check_counts,
    check_page,
    failed_segments,
    found_in,
    schema_of,
    short,
    status_of,
    text_of,
    time_of,
)

_NAMED = 10
_PAGE_ROWS = 4_000
_DEEPEST_RECORD = 200  # it is written again at depths of the stack that differ, and Python's limit is for both
_READ = ("prompt.json", "segment_results.", "video_results.", "failed_segments.")
_COUNTERS = (
    "total_segments",
    "completed_segments",
    "video_level_completed_items",
    "video_level_partial_items",
)


class LocalArchive:
    """The archive below a folder: a path, or any fsspec URL.

    Nothing is read before it is asked for, and nothing is remembered between two calls, except that a record which
    reads as it did is the same value while that is in use: a large one is in memory once. Raises RequestError where
    fsspec cannot open such a URL here.
    """

    readings_at_once = 1

    def __init__(
        self,
        path: str,
        *,
        max_document_bytes: int = Limits.max_document_bytes,
        max_record_bytes: int = Limits.max_record_bytes,
        follow_links: bool = False,
    ) -> None:
        limits = Limits(max_document_bytes, max_record_bytes)
        self._files = ArchiveFiles(path, limits, follow_links=follow_links)
        self._in_use: WeakValueDictionary[bytes, PromptRun] = WeakValueDictionary()

    def indexes(self) -> list[Index]:
        """All indexes, by id. A folder without ``index.json`` is not an index yet."""
        found = self._folders("indexes", "index.json")
        if found is None:
            raise self._no_archive()
        return sorted((self._index(folder, _had(data)) for folder, data in found), key=lambda index: index.index_id)

    def index(self, index_id: str) -> Index:
        """One index. Raises NotFoundError with the indexes that there are."""
        folder = _folder_name(index_id)
        data = self._files.document(f"indexes/{folder}/index.json")
        if data is not None:
            return self._index(folder, data)
        found = self._folders("indexes", "index.json")
        if found is None:
            raise self._no_archive()
        wanted = self._files.show(f"indexes/{folder}/index.json")
        known = first_few(sorted(folder for folder, _ in found), _NAMED)
        raise NotFoundError(
            f"There is no index {index_id!r}: {wanted} does not exist (a folder's name is its id, percent-encoded). "
            f"The archive has the folders {', '.join(map(one_line, known)) or '(none)'}."
        )

    def each_run(self, index_id: str) -> Iterator[PromptRun | UnreadableRun]:
        """All runs of an index. A folder without ``prompt_run.json`` is not a run yet."""
        self.index(index_id)
        for folder, data in self._folders(_runs_of(index_id), "prompt_run.json") or ():
            try:
                run = self._run(index_id, folder, _had(data))
            except SourceDataError as error:
                yield UnreadableRun(_stands_for(folder), error)
            else:
                yield run

    def listing(self, index_id: str) -> Listing:
        """All runs of an index at once."""
        return Listing.of(self.each_run(index_id))

    def prompt_runs(self, index_id: str) -> Sequence[PromptRun]:
        """All runs of an index, in the order (executed_at, run_id). A broken ``prompt_run.json`` is an error that names
        all broken ones."""
        return self.listing(index_id).complete()

    def prompt_run(self, index_id: str, run_id: str) -> PromptRun:
        """One run, read now. Raises NotFoundError."""
        folder = _folder_name(run_id)
        path = f"{_runs_of(index_id)}/{folder}/prompt_run.json"
        data = self._files.document(path)
        if data is None:
            self.index(index_id)
            raise NotFoundError(
                f"Index {index_id!r} has no prompt run {run_id!r}: {self._files.show(path)} does not exist. "
                f"`vv-exports runs list {one_line(index_id)}` shows the runs that there are."
            )
        return self._run(index_id, folder, data)

    def change_hint(self, run: PromptRun) -> JsonValue:
        """Size and version (or time of the last change) of every file in the run's folder, by name; why they cannot be
        had, where that is so."""
        try:
            return self._files.versions(_run_path(run))
        except SourceDataError as error:
            return str(error)

    def effort(self, run: PromptRun) -> Effort:
        """The files in the run's folder that are read."""
        try:
            names = self._files.names(_run_path(run)) or ()
        except SourceDataError:
            return Effort()
        return Effort(files=sum(name.startswith(_READ) for name in names))

    @contextmanager
    def results(self, run: PromptRun, stage: Stage) -> Iterator[Results]:
        """The files in the run's folder. Nothing needs to be staged: they can be read at any time."""
        del stage
        prompt = self.prompt(run)
        if prompt.video_level_schema is None:  # then nobody asks for video results
            next(self.video_results(run), None)
        yield Results(
            prompt,
            segments=partial(self.segment_results, run),
            videos=partial(self.video_results, run),
            failures=partial(self.failed_segments, run),
            run_afterwards=partial(self.prompt_run, run.index_id, run.run_id),
        )

    def close(self) -> None:
        """Nothing is left open."""

    def check(self, index_ids: Sequence[str]) -> Iterator[Finding]:
        """Whether the archive can be read, and the records of the configured indexes' runs with it."""
        try:
            known = [index.index_id for index in self.indexes()]
        except VVExportsError as error:
            yield Finding("archive", "failed", str(error), error)
            return
        there, named = counted(len(known), "index", "indexes"), map(one_line, first_few(known, _NAMED))
        yield Finding("archive", "ok", f"{self._files.show('')} holds {there}: {', '.join(named)}")
        yield from check_indexes(self, index_ids)

    def prompt(self, run: PromptRun) -> Prompt:
        """The prompt in the run's folder."""
        path = f"{_run_path(run)}/prompt.json"
        where = self._files.show(path)
        data = self._files.document(path)
        if data is None:
            raise SourceDataError(f"{where} does not exist: every run folder holds the prompt as it was")
        record = _object(data, where)
        if record.get("prompt_id") != run.prompt_id:
            found = found_in(record, "prompt_id")
            raise SourceDataError(f"{where}: expected the run's prompt_id {short(run.prompt_id)}, found {found}")
        video_level = record.get("video_level")
        return Prompt(
            prompt_id=run.prompt_id,
            name=text_of(record, "name", where),
            prompt_text=text_of(record, "prompt_text", where, may_be_empty=True),
            json_schema=schema_of(record, where),
            video_level_schema=None if video_level is None else schema_of(video_level, f"{where}, video_level"),
        )

    def segment_results(self, run: PromptRun) -> Iterator[Page]:
        """The run's segment results in the order of the file, some hundred kilobytes of text a page."""
        stated = run.count("completed_segments")
        if (path := self._results(run, "segment_results")) is None:
            if run.deliverable and stated != 0:
                raise self._missing(run, "segment_results", "segment results")
            return
        yield from self._checked(path, run, "segments", "completed_segments", stated)

    def video_results(self, run: PromptRun) -> Iterator[Page]:
        """The run's video results in the order of the file, some hundred kilobytes of text a page."""
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
        yield from self._checked(path, run, "videos", counters, stated)

    def failed_segments(self, run: PromptRun) -> Iterator[Page]:
        """The run's failed segments, flattened where they are in the SDK's manifest."""
        if (path := self._results(run, "failed_segments", ".json")) is None:
            return
        total, completed = run.count("total_segments"), run.count("completed_segments")
        # A run that stopped early has segments that neither completed nor failed.
        stated = total - completed if run.deliverable and total is not None and completed is not None else None
        counters = "total_segments - completed_segments"
        yield from self._checked(path, run, "failures", counters, stated)

    def _checked(
        self, path: str, run: PromptRun, table: TableName, counters: str, stated: int | None
    ) -> Iterator[Page]:
        """The file's pages; after the last one, their number against the run's record."""
        found = 0
        check = partial(check_page, run=run, table=table)
        pages = self._manifest(path, run, check) if path.endswith(".json") else self._files.pages(path, check)
        for page in pages:
            found += page.rows
            yield page
        if stated is not None and found != stated:
            raise SourceDataError(
                f"{self._files.show(path)} holds {found} documents, but the prompt_run.json beside it states "
                f"{counters} = {stated}: write the file that does not tell the truth again"
            )

    def _manifest(self, path: str, run: PromptRun, check: Check) -> Iterator[Page]:
        """The documents of ``failed_segments.json``."""
        where = self._files.show(path)
        whole = failed_segments(_object(self._files.document(path) or b"", where), run, where)
        for start in range(0, len(whole.documents), _PAGE_ROWS):
            page = DocumentPage(whole.documents[start : start + _PAGE_ROWS], partial(_located, whole, start))
            check(page)
            yield page

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

    def _folders(self, parent: str, record: str) -> Iterator[tuple[str, bytes | SourceDataError]] | None:
        """The folders that hold the record, each with its text or why that cannot be had. None where the parent does
        not exist."""
        names = self._files.names(parent)
        if names is None:
            return None
        texts = self._files.documents(f"{parent}/{name}/{record}" for name in names)
        return ((name, text) for name, text in zip(names, texts, strict=True) if text is not None)

    def _index(self, folder: str, data: bytes) -> Index:
        where = self._files.show(f"indexes/{folder}/index.json")
        record = _object(data, where)
        description = record.get("description")
        if not isinstance(description, str | None):
            raise SourceDataError(f"{where}: expected description to be a string, found {short(description)}")
        return Index(_own_id(record, "index_id", folder, where), text_of(record, "name", where), description)

    def _run(self, index_id: str, folder: str, data: bytes) -> PromptRun:
        digest = hashlib.sha256(f"{index_id}\0{folder}\0".encode(errors="surrogatepass"))
        digest.update(data)
        run = self._in_use.get(digest.digest()) or self._decoded_run(index_id, folder, data)
        self._in_use[digest.digest()] = run
        return run

    def _decoded_run(self, index_id: str, folder: str, data: bytes) -> PromptRun:
        where = self._files.show(f"{_runs_of(index_id)}/{folder}/prompt_run.json")
        record = _object(data, where)
        begun = data.count(b"{") + data.count(b"[")  # fewer cannot nest deeper, and mostly they are few
        if begun > _DEEPEST_RECORD and nests_deeper(record, _DEEPEST_RECORD):
            raise SourceDataError(f"{where}: arrays or objects are nested deeper than {_DEEPEST_RECORD} levels")
        run_id = _own_id(record, "run_id", folder, where)
        check_counts(record, _COUNTERS, where)
        return PromptRun(
            run_id=run_id,
            index_id=index_id,
            prompt_id=text_of(record, "prompt_id", where),
            prompt_name=text_of(record, "prompt_name", where),
            status=status_of(record, where),
            executed_at=time_of(record, "executed_at", where),
            record=record,
        )


def _located(page: Page, start: int, i: int) -> str:
    return page.locate(start + i)


def _had(data: bytes | SourceDataError) -> bytes:
    if isinstance(data, SourceDataError):
        raise data
    return data


def _object(data: bytes, where: str) -> JsonObject:
    try:
        value, reason = decode(data.removeprefix(BOM)), None
    except ValueError as error:
        value, reason = None, str(error)
    if reason is not None:  # not from the error: it may hold on to the text
        raise SourceDataError(f"{where}: expected one JSON document: {reason}")
    return as_object(value, where)


def _own_id(record: JsonObject, field: str, folder: str, where: str) -> str:
    """The record's id, which must be the one that its folder stands for."""
    value = text_of(record, field, where)
    if _folder_name(value) != folder:
        raise SourceDataError(
            f"{where}: the folder {folder!r} stands for {unquote(folder)!r}, but {field} is {short(value)}: "
            f"rename the folder to {short(_folder_name(value))} or mend the {field}"
        )
    if "%ED%A" in folder or "%ED%B" in folder:
        raise SourceDataError(
            f"{where}: {field} {short(value)} holds half of a surrogate pair, which no storage can name"
        )
    return value


def _folder_name(an_id: str) -> str:
    name = quote(an_id, safe="~", errors="surrogatepass")
    return name.replace(".", "%2E") if name in {".", ".."} else name


def _stands_for(folder: str) -> str:
    """The id of a folder. One whose name no id has stands for its name, and so never for another folder's run."""
    named = folder.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return an_id if _folder_name(an_id := unquote(named)) == folder else named


def _runs_of(index_id: str) -> str:
    return f"indexes/{_folder_name(index_id)}/prompt_runs"


def _run_path(run: PromptRun) -> str:
    return f"{_runs_of(run.index_id)}/{_folder_name(run.run_id)}"
