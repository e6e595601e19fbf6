"""Every refusal of an archive is on the page of its format, and every row of that page is a refusal.

Each case provokes one row of docs/archive-format.md. A place in the code that makes a SourceDataError and that no case
comes to fails the last test: it is not documented.
"""

import ast
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pytest
from botocore.exceptions import ClientError
from fsspec.implementations.memory import MemoryFileSystem
from s3fs.errors import translate_boto_error

import vv_exports
from vv_exports.errors import SourceDataError
from vv_exports.snapshots import reading, run_faults
from vv_exports.snapshots.reading import read_run
from vv_exports.snapshots.run_faults import faults_of_run
from vv_exports.sources import archive_files, archive_folder, archive_store, documents, local_archive
from vv_exports.sources.archive_store import ArchiveStore
from vv_exports.sources.local_archive import LocalArchive
from vv_exports_tests.sources.archives import PROMPT, lines, segment, video, write_run

MODULES = [archive_files, archive_folder, archive_store, documents, local_archive, reading, run_faults]


def read(archive, **options):
    """All of run_1, as a snapshot does."""
    here = LocalArchive(str(archive), **options)
    here.indexes()
    here.prompt_runs("idx_1")
    run = here.prompt_run("idx_1", "run_1")
    here.prompt(run)
    with here.results(run, None) as results, TemporaryDirectory() as spool:
        read_run(results, run, Path(spool))


def of_files(make=lambda run: None, *, files=None, prompt=PROMPT, options=None, **record):
    """A run with these files, changed by ``make``, and read."""

    def provoke(folder):
        given = {"segment_results.jsonl": lines(segment())} if files is None else files
        make(write_run(folder, given, prompt=prompt, **record))
        read(folder, **(options or {}))

    return provoke


def of_segments(*rows):
    return of_files(files={"segment_results.jsonl": lines(*rows)})


def of_manifest(**manifest):
    return of_files(files={"segment_results.jsonl": b"", "failed_segments.json": lines(manifest)})


def replaced(name, make):
    def change(run):
        (run / name).unlink(missing_ok=True)
        make(run / name)

    return change


def linked_out(run):
    (run / "prompt.json").rename(run.parents[3].parent / "prompt.json")
    (run / "prompt.json").symlink_to(run.parents[3].parent / "prompt.json")


def unreadable(run):
    (run / "prompt.json").unlink()
    (run / "prompt.json").symlink_to("prompt.json")  # to its owner, root included, permissions say nothing


def vanished(folder):
    write_run(folder)
    place = archive_folder.ArchiveFolder(str(folder), follow_links=False)
    with place.reader("indexes/idx_1/gone.jsonl"):
        pass


def vanished_from_a_store(folder):
    with ArchiveStore(fsspec.filesystem("memory"), "/nothing").reader("gone.jsonl"):
        pass


class Glacier(MemoryFileSystem):
    """Answers as s3fs does where S3 has put an object away."""

    cachable = False

    def _open(self, path, *args, **options):
        raise translate_boto_error(ClientError({"Error": {"Code": "InvalidObjectState"}}, "GetObject"))


def put_away(folder):
    with ArchiveStore(Glacier(), "/nothing").reader("away.jsonl"):
        pass


def too_odd(folder):
    with faults_of_run("idx", "run"):
        raise MemoryError


def twice_out_of_order(folder):
    write_run(folder, {"segment_results.jsonl": lines(segment(1), segment(0), segment(1))})
    read(folder)


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def without(record, field):
    return {name: value for name, value in record.items() if name != field}


MANY = b'{"segment_id": "s", "metadata": {"x": [' + b"1," * 20_000 + b"1]}}"
CASES = {
    "a file over `max_document_bytes`": [of_files(options={"max_document_bytes": 50})],
    "a line over `max_record_bytes`": [
        of_files(options={"max_record_bytes": 20}),
        of_files(files={"segment_results.jsonl": b"x" * 30}, options={"max_record_bytes": 20}),
    ],
    "more values than the limit allows": [
        of_files(files={"segment_results.jsonl": MANY}, options={"max_record_bytes": len(MANY)}),
        of_files(lambda run: (run / "prompt.json").write_bytes(MANY), options={"max_document_bytes": len(MANY)}),
    ],
    "a link that leads nowhere": [of_files(replaced("segment_results.jsonl", lambda path: path.symlink_to("gone")))],
    "a link out of the archive": [of_files(linked_out)],
    "no file in a file's place": [of_files(replaced("prompt.json", os.mkfifo))],
    "a file that may not be read": [of_files(unreadable), put_away],
    "a file that vanishes": [vanished, vanished_from_a_store],
    "a compressed file that is cut short or damaged": [of_files(files={"segment_results.jsonl.gz": b"\x1f\x8b"})],
    "a compressed file of no bytes": [of_files(files={"segment_results.jsonl.zst": b""})],
    "not one JSON document": [
        of_files(files={"segment_results.jsonl": b"{} {}"}),
        of_files(lambda run: (run / "prompt.json").write_bytes(b"\xff")),
    ],
    "no JSON object": [of_segments([]), of_files(lambda run: (run / "prompt.json").write_bytes(b"[]"))],
    "two files of the same results": [
        of_files(files={"segment_results.jsonl": lines(segment()), "segment_results.jsonl.gz": b""})
    ],
    "a results file that is missing": [of_files(files={}), of_files(video_level_completed_items=1)],
    "too deep, too wide or too large": [too_odd, of_files(deep=nested(300))],
    "an id that its folder does not stand for": [of_files(folder="run_2")],
    "an id with half of a surrogate pair": [of_files(run_id="\ud800", folder="%ED%A0%80")],
    "a text field that is missing, empty or no text": [of_files(prompt_name="")],
    "a description that is no text": [
        of_files(lambda run: (run.parents[1] / "index.json").write_text('{"index_id": "idx_1", "description": 1}'))
    ],
    "a status that is not one of the six": [of_files(status="done")],
    "a time that is not ISO 8601": [of_files(executed_at="yesterday")],
    "a counter that is no count": [of_files(completed_segments="1")],
    "a missing `prompt.json`": [of_files(lambda run: (run / "prompt.json").unlink())],
    "another prompt's `prompt.json`": [of_files(prompt=PROMPT | {"prompt_id": "prm_2"})],
    "no `json_schema`": [of_files(prompt=without(PROMPT, "json_schema"))],
    "a field of a result that is missing or of another type": [of_segments({"segment_id": "s"})],
    "a result of another run or prompt": [of_segments(segment(prompt_id="prm_2"))],
    "the same result twice": [of_segments(segment(), segment()), twice_out_of_order],
    "more or fewer results than the record states": [of_files(completed_segments=2)],
    "video results without a `video_level`": [
        of_files(files={"segment_results.jsonl": b"", "video_results.jsonl": lines(video())})
    ],
    "a manifest of another run": [of_manifest(run_id="run_2", videos=[])],
    "a manifest without its arrays": [of_manifest(videos=[{"video_id": "v"}])],
    "a failed segment that is no object": [of_manifest(videos=[{"video_id": "v", "segments": [7]}])],
    "a manifest that miscounts": [of_manifest(failed_segments=1, videos=[])],
}


def documented():
    """The rows of the page's tables of refusals."""
    page = (Path(vv_exports.__file__).parents[1] / "docs" / "archive-format.md").read_text()
    section = page.split("## What is refused")[1].split("\n## ")[0]
    return [
        row
        for row in re.findall(r"^\| (.+?) \|.*\|$", section, re.MULTILINE)
        if row not in {"Files", "Records", "Results"}
    ]


def places():
    """Where a SourceDataError is made: (file, first line, last line)."""
    for module in MODULES:
        path = Path(module.__file__)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SourceDataError":
                yield path.name, node.lineno, node.end_lineno


def refused(provoke, folder):
    """The error of a case, and the lines that were carried out on the way to it."""
    carried_out = set()
    names = {str(Path(module.__file__)) for module in MODULES}

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in names:
            return None
        if event == "line":
            carried_out.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        provoke(folder)
    except SourceDataError as error:
        return error, carried_out
    finally:
        sys.settrace(before)
    raise AssertionError("was not refused")


@pytest.fixture(scope="module")
def provoked(tmp_path_factory):
    """Every case, provoked: (row, error, lines)."""
    return [
        (row, *refused(provoke, tmp_path_factory.mktemp("case") / "archive"))
        for row, cases in CASES.items()
        for provoke in cases
    ]


def test_each_row_of_the_page_is_a_case_and_each_case_a_row():
    assert documented() == list(CASES)


def test_each_case_is_refused_with_the_place_and_what_to_do(provoked):
    for row, error, _ in provoked:
        assert re.search(r"(/archive/indexes/idx_1|memory://|run 'run')", str(error)), row


def test_every_refusal_of_the_code_is_provoked_by_a_case(provoked):
    carried_out = set().union(*(lines_ for *_, lines_ in provoked))
    missed = [
        f"{name}:{first}"
        for name, first, last in places()
        if not any((name, line) in carried_out for line in range(first, last + 1))
    ]
    assert missed == []
    assert len(list(places())) > 25
