"""A checkpoint of a log saves reading it, and can be lost, damaged, or of another log: the entries are the truth."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

import msgspec
import pytest

from vv_exports.connectors import local
from vv_exports.connectors.lease import Lease
from vv_exports.connectors.versioned_document import packed, unpacked
from vv_exports.delivery import checkpoints
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import (
    FORMAT_VERSION,
    DeliveredFile,
    DeliveredRun,
    ExportReference,
    LogEntry,
    Provenance,
    RowCounts,
    write_entry,
)
from vv_exports.delivery.log import keep_checkpoint, read_log, scan_log
from vv_exports.delivery.ownership import claim
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import survey
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import verify
from vv_exports.domain.destinations import log_entry_name
from vv_exports.errors import DeliveredDataError, RequestError, TransientError
from vv_exports_tests.delivery.conftest import NOW, OWNER, TEAM
from vv_exports_tests.fakes.faulty_connector import FaultyConnector
from vv_exports_tests.fakes.memory_store import Memory, MemoryStore

EVERY = 5
CHECKPOINTS = Path("_vv/checkpoints")


@pytest.fixture(autouse=True)
def every(monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", EVERY)


@pytest.fixture
def top(deployment):
    return deployment.folder / "deliveries" / TEAM


def _deliver(deployment, *numbers, **changes):
    """Runs by number, each by a delivery of its own."""
    for number in numbers:
        request = deployment.request(deployment.snapshot(f"run_{number}"), **changes)
        deliver(request, deployment.store, lambda: NOW)


def _entry(number: int, **changes: object) -> LogEntry:
    """An entry as a delivery of one run writes it."""
    run_id = f"run_{number}"
    file = DeliveredFile(
        path=f"segments/prompt_id=prm/prompt_run_id={run_id}/part-00000-{number:016x}.parquet",
        table="segments",
        prompt_id="prm",
        prompt_run_id=run_id,
        rows=1,
        bytes=4,
        sha256=f"{number:064x}",
    )
    run = DeliveredRun(
        run_id=run_id,
        prompt_id="prm",
        status="completed",
        revision=1,
        data_version=f"{number:064x}",
        counts=RowCounts(expected=1, delivered=1, failed=0),
        supersedes=None,
        reason="new",
    )
    provenance = Provenance(
        vv_exports_version="1",
        dagster_run_id=None,
        snapshot_store="store",
        format="parquet",
        layout_version=1,
        prompt_runs=[],
        json_schemas={},
    )
    fields = {
        "format_version": FORMAT_VERSION,
        "delivery_id": f"{number:032x}",
        "sequence": number,
        "committed_at": "2026-11-01T00:00:00Z",
        "export": ExportReference(id="idx/team", type="automation", index_id="idx", automation="team", began_at=NOW),
        "files": [file],
        "prompt_runs": [run],
        "provenance": provenance,
    }
    return LogEntry(**{**fields, **changes})


def _write_log(deployment, count: int) -> None:
    """What so many deliveries write of a log, without their files."""
    destination, state = deployment.destination(), LogState()
    claim(destination)
    for number in range(count):
        entry = _entry(number)
        assert write_entry(destination, entry, Lease())
        state.apply(entry)
        keep_checkpoint(destination, state, number)


def _names(top: Path) -> list[str]:
    return sorted(path.name for path in (top / CHECKPOINTS).iterdir())


def _rewrite(path: Path, **changes: object) -> None:
    path.write_bytes(packed({**unpacked(path.read_bytes(), dict), **changes}))


# Writing


def test_every_so_many_entries_there_is_a_checkpoint_and_the_last_two_are_kept(deployment, top):
    _deliver(deployment, *range(4))
    assert not (top / CHECKPOINTS).exists()
    _deliver(deployment, 4)
    assert _names(top) == ["00000000000000000004.json.zst"]
    _deliver(deployment, *range(5, 16))
    assert _names(top) == ["00000000000000000009.json.zst", "00000000000000000014.json.zst"]
    assert verify(deployment.destination()).problems == ()


def test_a_reader_takes_from_a_checkpoint_what_the_entries_say(deployment):
    _deliver(deployment, 0, 1, 2)
    deliver(deployment.request(deployment.snapshot("run_1", segments=5)), deployment.store, lambda: NOW)
    deliver(deployment.request(deployment.snapshot("run_2"), format_name="csv"), deployment.store, lambda: NOW)
    _deliver(deployment, 5)
    destination = deployment.destination()
    found, (entries, faults) = read_log(destination), scan_log(destination)
    assert (found.checkpoint, entries.checkpoint, faults) == (4, None, [])
    assert found == entries
    assert found.abandoned, "what was superseded stays abandoned"


def test_a_checkpoint_that_cannot_be_written_is_a_warning_and_no_failure(deployment, top, caplog):
    _deliver(deployment, *range(4))

    def refused(perform):
        raise RequestError("conn: may not write there")

    request = deployment.request(deployment.snapshot("run_4"))
    probe = FaultyConnector(deployment.connector, {})
    deliver(deployment.request(*request.snapshots, connector=probe, subpath="probe"), deployment.store, lambda: NOW)
    puts = sum(name == "put" for name in probe.log)
    broken = FaultyConnector(deployment.connector, {puts: refused}, only=frozenset({"put"}))
    with caplog.at_level(logging.WARNING):
        outcome = deliver(deployment.request(*request.snapshots, connector=broken), deployment.store, lambda: NOW)
    assert (outcome.committed, outcome.sequence) == (True, 4)
    assert "gets no checkpoint at entry 4: conn: may not write there" in caplog.text
    assert read_log(deployment.destination()).checkpoint is None


def test_a_log_without_checkpoints_gets_one_at_its_next_round_entry(deployment, top):
    _deliver(deployment, *range(7))
    shutil.rmtree(top / CHECKPOINTS)
    _deliver(deployment, 7, 8)
    assert read_log(deployment.destination()).checkpoint is None
    _deliver(deployment, 9)
    assert read_log(deployment.destination()).checkpoint == 9


# Reading


@pytest.mark.parametrize("count", [1_000, 999])
def test_a_reader_of_many_entries_reads_the_last_hundred_at_most(monkeypatch, count):
    monkeypatch.setattr(checkpoints, "EVERY", 100)
    memory = Memory()
    destination = Destination(MemoryStore(memory), TEAM, OWNER)
    state = LogState()
    for number in range(count):
        entry = _entry(number)
        memory.objects[f"base/{TEAM}/{log_entry_name(number)}"] = msgspec.json.encode(entry)
        state.apply(entry)
        if number in {899, 999}:
            keep_checkpoint(destination, state, number)
    memory.requests.clear()
    assert read_log(destination) == state
    # Two listings, the checkpoint, the entry that it stands on, and those behind it.
    assert len(memory.requests) == 4 + count % 100


def _nothing(top: Path) -> None:
    shutil.rmtree(top / CHECKPOINTS)


def _cut(top: Path) -> None:
    for path in (top / CHECKPOINTS).iterdir():
        path.write_bytes(path.read_bytes()[:-20])


def _of_no_form(top: Path) -> None:
    for path in (top / CHECKPOINTS).iterdir():
        path.write_bytes(packed({"format_version": 1}))


def _altered(top: Path) -> None:
    for path in (top / CHECKPOINTS).iterdir():
        state = unpacked(path.read_bytes(), dict)["state"]
        _rewrite(path, state={**state, "runs": []})


def _newer(top: Path) -> None:
    for path in (top / CHECKPOINTS).iterdir():
        _rewrite(path, format_version=2, more="of a later version")


def _renamed(top: Path) -> None:
    (top / CHECKPOINTS / "00000000000000000004.json.zst").rename(top / CHECKPOINTS / "00000000000000000005.json.zst")


def _a_file(top: Path) -> None:
    shutil.rmtree(top / CHECKPOINTS)
    (top / CHECKPOINTS).write_text("somebody's")


def _a_link(top: Path) -> None:
    (top / CHECKPOINTS).rename(top.parent / "elsewhere")
    (top / CHECKPOINTS).symlink_to(top.parent / "elsewhere")


def _far_ahead(top: Path) -> None:
    (top / CHECKPOINTS / "00000000000000000004.json.zst").rename(top / CHECKPOINTS / "00000000000000000099.json.zst")


@pytest.mark.parametrize(
    "harm", [_nothing, _cut, _of_no_form, _altered, _newer, _renamed, _a_file, _a_link, _far_ahead]
)
def test_a_checkpoint_that_is_lost_or_damaged_is_not_believed_and_the_entries_are_read(deployment, top, harm):
    _write_log(deployment, 7)
    before = scan_log(deployment.destination())[0]
    harm(top)
    found = read_log(deployment.destination())
    assert found == before
    assert found.checkpoint is None
    _deliver(deployment, 7)
    assert read_log(deployment.destination()).runs.keys() == {f"run_{number}" for number in range(8)}


def test_where_the_newest_is_damaged_the_one_before_it_serves(deployment, top):
    _write_log(deployment, 11)
    (top / CHECKPOINTS / "00000000000000000009.json.zst").write_bytes(b"")
    found = read_log(deployment.destination())
    assert found.checkpoint == 4
    assert found == scan_log(deployment.destination())[0]


def test_a_checkpoint_does_not_count_in_a_log_that_was_begun_anew_with_the_same_numbers(deployment, top):
    _deliver(deployment, *range(6))
    (top / "_vv/log").rename(deployment.folder / "aside")
    _deliver(deployment, *range(10, 16))
    found = read_log(deployment.destination())
    assert found.runs.keys() == {f"run_{number}" for number in range(10, 16)}
    assert found == scan_log(deployment.destination())[0]


def test_a_checkpoint_does_not_count_where_the_log_was_set_back_to_before_it(deployment, top):
    _deliver(deployment, *range(4))
    shutil.copytree(top / "_vv/log", deployment.folder / "backup")
    _deliver(deployment, 4, 5)
    shutil.rmtree(top / "_vv/log")
    shutil.copytree(deployment.folder / "backup", top / "_vv/log")
    assert read_log(deployment.destination()).runs.keys() == {f"run_{number}" for number in range(4)}
    _deliver(deployment, 8, 9)
    assert read_log(deployment.destination()) == scan_log(deployment.destination())[0]


def test_a_checkpoint_of_a_copied_folder_counts_as_its_log_does(deployment, top):
    _write_log(deployment, 6)
    shutil.copytree(top, top.parent / "copy")
    copy = read_log(deployment.destination("exports/copy"))
    assert copy == read_log(deployment.destination())


def test_a_hole_behind_a_checkpoint_makes_no_reader_see_a_wrong_state_and_is_found_by_verify(deployment, top):
    _write_log(deployment, 6)
    (top / log_entry_name(2)).unlink()
    assert len(read_log(deployment.destination()).runs) == 6
    (problem, *_) = verify(deployment.destination()).problems
    assert "00000000000000000002.json is missing, while entry 4 is there" in problem
    assert "Deliveries go on from the checkpoint at entry 4." in problem
    with pytest.raises(DeliveredDataError, match=r"00000000000000000002\.json is missing"):
        read_log(deployment.destination(), LogState())


def test_a_damaged_entry_behind_a_checkpoint_is_found_by_verify(deployment, top):
    _write_log(deployment, 6)
    (top / log_entry_name(2)).write_bytes(b"{}")
    assert len(read_log(deployment.destination()).runs) == 6
    (problem, *_) = verify(deployment.destination()).problems
    assert "is not a delivery log entry" in problem


def test_an_entry_that_somebody_replaced_behind_a_checkpoint_is_found_by_verify(deployment, top):
    _write_log(deployment, 6)
    path = top / log_entry_name(2)
    entry = json.loads(path.read_bytes())
    entry["prompt_runs"][0]["data_version"] = "other"
    path.write_text(json.dumps(entry))
    (problem, *_) = verify(deployment.destination()).problems
    assert "says otherwise of the log up to entry 4 than its entries do" in problem
    shutil.rmtree(top / CHECKPOINTS)  # as it says
    assert not any("otherwise" in problem for problem in verify(deployment.destination()).problems)
    assert read_log(deployment.destination()).runs["run_2"].run.data_version == "other"


def test_a_hole_after_a_checkpoint_stops_a_reader_as_ever(deployment, top):
    _write_log(deployment, 8)
    (top / log_entry_name(6)).unlink()
    with pytest.raises(DeliveredDataError, match="entry 7 is there"):
        read_log(deployment.destination())


def test_a_store_that_is_away_while_a_checkpoint_is_read_fails_the_reading(deployment):
    """It would be read without the checkpoint otherwise, request by request, from a store that is busy."""
    _write_log(deployment, 6)

    def busy(perform):
        raise TransientError("conn: busy")

    away = FaultyConnector(deployment.connector, {0: busy}, only=frozenset({"read"}))
    with pytest.raises(TransientError):
        read_log(deployment.destination(connector=away))


# What it is beside the other files


def test_checkpoints_are_the_pipelines_own_and_a_vacuum_removes_old_ones(deployment, top):
    _deliver(deployment, *range(11))
    for number in (1, 2, 77):
        shutil.copy(top / CHECKPOINTS / "00000000000000000009.json.zst", top / CHECKPOINTS / f"{number:020}.json.zst")
    (top / CHECKPOINTS / "notes.txt").write_text("somebody's")
    said = verify(deployment.destination())
    assert (said.problems, said.foreign) == ((), ("_vv/checkpoints/notes.txt",))
    planned, done = (vacuum(deployment.destination(), lambda: NOW, dry_run=dry) for dry in (True, False))
    assert planned.checkpoints == done.checkpoints == tuple(f"{CHECKPOINTS}/{n:020}.json.zst" for n in (1, 2, 77))
    assert done.left_alone == ("_vv/checkpoints/notes.txt",)
    assert _names(top) == ["00000000000000000004.json.zst", "00000000000000000009.json.zst", "notes.txt"]


def test_a_vacuum_abandons_no_file_on_the_word_of_a_checkpoint(deployment, top):
    """An entry that the checkpoint does not know, put there by hand, holds files; the vacuum reads it first."""
    _deliver(deployment, *range(6))
    checkpoint = top / CHECKPOINTS / "00000000000000000004.json.zst"
    raw = unpacked(checkpoint.read_bytes(), dict)
    state = {**raw["state"], "runs": [run for run in raw["state"]["runs"] if run["run"]["run_id"] != "run_2"]}
    encoded = msgspec.json.encode(state)
    _rewrite(checkpoint, state=msgspec.Raw(encoded), state_sha256=hashlib.sha256(encoded).hexdigest())
    assert "run_2" not in read_log(deployment.destination()).runs, "it is believed: its hash is right"
    before = deployment.files()
    with pytest.raises(DeliveredDataError, match="says otherwise"):
        vacuum(deployment.destination(), lambda: NOW)
    assert deployment.files() == before


def test_a_checkpoint_alone_owns_no_folder(deployment, top):
    _write_log(deployment, 6)
    (top / "_vv/owner.json").unlink()
    shutil.rmtree(top / "_vv/log")
    stranger = deployment.request(
        deployment.snapshot("run_9"), owner=msgspec.structs.replace(OWNER, index_id="other"), subpath="exports/team"
    )
    assert deliver(stranger, deployment.store, lambda: NOW).committed


def test_one_survey_says_what_a_reader_of_the_whole_log_would(deployment):
    _write_log(deployment, 6)
    quick, whole = survey(deployment.destination()), survey(deployment.destination(), whole_log=True)
    assert quick == whole
    assert (quick.owner.owner, quick.log_problem, quick.owner_problem) == (OWNER, None, None)


def test_a_checkpoint_that_came_while_the_folder_was_listed_says_nothing_otherwise(deployment, monkeypatch):
    """A walk of a folder takes time: it had the log as it was before a delivery, and the checkpoints after it."""
    _deliver(deployment, *range(4))
    walk, interrupted = local.entries_below, []

    def slow(folder, **options):
        before = list(walk(folder, **options))
        if not interrupted:
            interrupted.append(True)
            _deliver(deployment, 4)
            before = [one for one in before if one.path.startswith("log/")]
            before += [one for one in walk(folder, **options) if not one.path.startswith("log/")]
        yield from before

    monkeypatch.setattr(local, "entries_below", slow)
    found = survey(deployment.destination(), whole_log=True)
    assert interrupted
    assert found.log_problem is None
    assert found.state == read_log(deployment.destination())
