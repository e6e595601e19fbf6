"""A delivery log of which an entry is lost, damaged or somebody else's: what is said, and the way out that it names."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from vv_exports.automations.deliver import deliver_batch, take_snapshots
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import FORMAT_VERSION, ExportReference
from vv_exports.delivery.log import read_log
from vv_exports.delivery.verify import verify
from vv_exports.errors import DeliveredDataError, VVExportsError
from vv_exports_tests.archives import write_run
from vv_exports_tests.delivery.conftest import NOW
from vv_exports_tests.deployments import client_of

TEAM = "exports/team"


def _entry(log: Path, number: int) -> Path:
    return log / f"{number:020}.json"


def _deliver(client) -> list[str]:
    """What the command does, without Dagster, which takes a second. Returns the runs that were delivered."""
    pipeline = client.pipeline
    automation = pipeline.automations.get("idx", "team")
    automation.claim_again(NOW)
    listing = pipeline.indexes.listing("idx")
    pipeline.automations.begin("idx", listing, NOW)
    known = pipeline.snapshots.known("idx", listing, automation.collection().runs)
    due = automation.standings(known).due(NOW)
    if not due:
        return []
    batch = take_snapshots(automation, due, NOW)
    outcome = deliver_batch(automation, pipeline.deliveries, batch, None)
    assert outcome.problems == {}
    return [run.run_id for delivery in outcome.deliveries for run in delivery.prompt_runs]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """A collection of three entries, each of one run."""
    folder = tmp_path_factory.mktemp("delivered")
    client = client_of(folder)
    for number in range(3):
        write_run(folder / "archive", run_id=f"run_{number}", segments=number + 1)
        assert _deliver(client) == [f"run_{number}"]
    return folder


@pytest.fixture
def team(delivered, tmp_path):
    """A copy of it."""
    shutil.copytree(delivered, tmp_path, dirs_exist_ok=True)
    return tmp_path / "deliveries" / TEAM


def _lost(log, number):
    _entry(log, number).unlink()


def _emptied(log, number):
    _entry(log, number).write_bytes(b"")


def _cut(log, number):
    _entry(log, number).write_bytes(_entry(log, number).read_bytes()[:100])


def _no_text(log, number):
    _entry(log, number).write_bytes(b'{"format_version": 1, "delivery_id": "\xff"}')


def _a_list(log, number):
    _entry(log, number).write_bytes(b"[1]")


def _another_entrys(log, number):
    shutil.copy(_entry(log, (number + 1) % 3), _entry(log, number))


def _another_indexs(log, number):
    text = _entry(log, number).read_text()
    _entry(log, number).write_text(text.replace('"index_id": "idx"', '"index_id": "other"'))


def _an_exports(log, number):
    text = _entry(log, number).read_text()
    _entry(log, number).write_text(text.replace('"type": "automation"', '"type": "prompt_run"'))


def _a_link(log, number):
    _entry(log, number).rename(log.parent / "elsewhere.json")
    _entry(log, number).symlink_to(log.parent / "elsewhere.json")


def _a_fifo(log, number):
    _entry(log, number).unlink()
    os.mkfifo(_entry(log, number))


def _with(**told):
    def edited(log, number):
        entry = json.loads(_entry(log, number).read_text())
        _entry(log, number).write_text(json.dumps(entry | told))

    return edited


def _no_column(log, number):
    (table, *_) = json.loads(_entry(log, number).read_text())["tables"]
    _with(tables=[table | {"metadata": {"type": "object", "fields": [{"name": "a", "type": "colour"}]}}])(log, number)


def _too_deep(log, number):
    text = _entry(log, number).read_text()
    (table, *_) = json.loads(text)["tables"]
    deep = '{"type": "list", "item": ' * 5000 + '{"type": "string"}' + "}" * 5000
    without = json.dumps(json.loads(text) | {"tables": [table | {"metadata": "DEEP"}]})
    _entry(log, number).write_text(without.replace('"DEEP"', deep))


MOMENTS = {
    "no_moment": _with(committed_at="yesterday"),
    "no_time_zone": _with(committed_at="2026-11-26T00:00:00"),
    "beyond_all_time": _with(retain_superseded_seconds=10**18),
    "before_all_time": _with(retain_superseded_seconds=-(10**11)),
}
BREAKS = [
    *(_a_link, _a_fifo, _lost, _emptied, _cut, _no_text, _a_list, _another_entrys, _another_indexs, _an_exports),
    *(_no_column, _too_deep),
]
CASES = [(one, number) for one in BREAKS for number in (0, 1, 2) if (one, number) != (_lost, 2)]
CASES = [pytest.param(one, number, id=f"{one.__name__}-{number}") for one, number in CASES]
CASES += [pytest.param(one, 1, id=name) for name, one in MOMENTS.items()]


@pytest.mark.parametrize(("breaks", "number"), CASES)
def test_a_broken_entry_is_named_and_the_way_out_works(team, tmp_path, breaks, number):
    log = team / "_vv/log"
    breaks(log, number)
    client = client_of(tmp_path)
    before = sorted(path for path in team.rglob("*") if path.is_file())
    with pytest.raises(DeliveredDataError) as raised:
        _deliver(client)
    message = str(raised.value)
    assert str(_entry(log, number)) in message
    assert "The entries that can be read, 2, hold 2 prompt runs in 2 files." in message
    connector = client.pipeline.connectors["conn_export"]
    said = verify(Destination(connector, TEAM))
    assert said.problems[0] == message, "one message for all commands"
    if breaks not in {_another_indexs, _an_exports}:
        assert (said.prompt_runs, said.files) == (2, 2), "the others are verified all the same"
    assert said.advice == () or "automations run" not in said.advice[0], "no command is advised that fails"
    with pytest.raises(VVExportsError):
        client.vacuum("conn_export", TEAM)
    assert sorted(path for path in team.rglob("*") if path.is_file()) == before

    # As the message says.
    first = re.search(
        r"move every entry from (\S+) on out of (\S+), and run `vv-exports automations run (\S+) (\S+)`", message
    )
    assert (Path(first[2]), first[3], first[4]) == (team, "idx", "team")
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in sorted(log.iterdir()):
        if path.name >= Path(first[1]).name:
            path.rename(aside / path.name)
    if (breaks, number) in {(_lost, 1), (_cut, 2)}:
        client_of(tmp_path).automations.run(first[3], first[4])
    else:
        _deliver(client_of(tmp_path))
    state = read_log(Destination(connector, TEAM))
    assert {run_id: sum(file.rows for file in run.files) for run_id, run in state.runs.items()} == {
        "run_0": 1,
        "run_1": 2,
        "run_2": 3,
    }
    assert verify(Destination(connector, TEAM)).problems == ()


def test_what_is_known_from_the_good_entries_is_verified(team, tmp_path):
    connector = client_of(tmp_path).pipeline.connectors["conn_export"]
    (altered,) = team.rglob("prompt_run_id=run_2/*.parquet")
    _lost(team / "_vv/log", 1)
    altered.write_bytes(altered.read_bytes()[:-1] + b"?")
    said = verify(Destination(connector, TEAM))
    assert (said.prompt_runs, said.files) == (2, 2)
    assert "is missing, while entry 2 is there" in said.problems[0]
    assert str(altered) in said.problems[1]
    assert "is not committed by any entry that can be read" in said.problems[2], "what the lost entry held"


def test_several_broken_entries_are_one_message(team, tmp_path):
    _lost(team / "_vv/log", 0)
    _cut(team / "_vv/log", 1)
    connector = client_of(tmp_path).pipeline.connectors["conn_export"]
    with pytest.raises(DeliveredDataError, match=r"1 more of its entries.*can be read, 1,"):
        read_log(Destination(connector, TEAM))


def test_an_entry_of_a_later_version_asks_for_that_whatever_else_it_holds(team, tmp_path):
    later = FORMAT_VERSION + 1
    _entry(team / "_vv/log", 2).write_text(f'{{"format_version": {later}, "something": "else"}}')
    client = client_of(tmp_path)
    said = rf"has format_version {later}; this version reads up to {FORMAT_VERSION}. Upgrade vv_exports"
    with pytest.raises(DeliveredDataError, match=said):
        _deliver(client)
    said = verify(Destination(client.pipeline.connectors["conn_export"], TEAM))
    assert (said.prompt_runs, said.files) == (2, 2)
    assert "Upgrade vv_exports" in said.problems[0]
    assert "move" not in said.problems[0]


def test_what_was_put_behind_the_last_entry_is_taken_away_again(team, tmp_path):
    stranger = _entry(team / "_vv/log", 7)
    stranger.write_text("notes")
    client = client_of(tmp_path)
    with pytest.raises(DeliveredDataError, match=r"00003.json is missing, while entry 7 is there.*hold 3 prompt runs"):
        _deliver(client)
    stranger.unlink()
    assert _deliver(client) == []


def test_a_process_that_knows_the_log_from_before_says_the_same(team, tmp_path):
    client = client_of(tmp_path)
    client.pipeline.automations.get("idx", "team").collection()
    _entry(team / "_vv/log", 3).write_text("{")
    with pytest.raises(DeliveredDataError, match=r"000003.json is not a delivery log entry.*hold 3 prompt runs"):
        client.pipeline.automations.get("idx", "team").collection()


def test_other_files_beside_the_entries_break_nothing_and_are_listed(team, tmp_path):
    names = ["notes.txt", "00000000000000000001 (1).json", "00000000000000000003.json.tmp", "a\nb.json"]
    for name in names:
        (team / "_vv/log" / name).write_text("{")
    client = client_of(tmp_path)
    assert _deliver(client) == []
    said = verify(Destination(client.pipeline.connectors["conn_export"], TEAM))
    assert (said.problems, set(said.foreign)) == ((), {f"_vv/log/{name}" for name in names})


def test_a_log_folder_that_became_a_file_is_said_before_anything_is_written(team, tmp_path):
    shutil.rmtree(team / "_vv/log")
    (team / "_vv/log").write_text("somebody's")
    before = {path: path.read_bytes() for path in team.rglob("*") if path.is_file()}
    client = client_of(tmp_path)
    with pytest.raises(Exception, match="log is a file, and belongs to be the folder of the delivery log"):
        client.automations.run("idx", "team")
    connector = client.pipeline.connectors["conn_export"]
    assert "log is a file" in verify(Destination(connector, TEAM)).problems[0]
    with pytest.raises(DeliveredDataError, match="log is a file"):
        client.vacuum("conn_export", TEAM, without_log=True)
    assert {path: path.read_bytes() for path in team.rglob("*") if path.is_file()} == before
    (team / "_vv/log").rename(tmp_path / "aside")
    assert len(client.automations.run("idx", "team").delivered) == 3
    assert verify(Destination(connector, TEAM)).problems == ()


@pytest.mark.parametrize("place", ["_vv", "_vv/log", "_vv/owner.json"])
def test_a_link_in_the_place_of_what_is_the_pipelines_is_a_problem_of_that_destination(team, tmp_path, place):
    (team / place).rename(tmp_path / "elsewhere")
    (team / place).symlink_to(tmp_path / "elsewhere")
    said = verify(Destination(client_of(tmp_path).pipeline.connectors["conn_export"], TEAM))
    assert f"{team / place} is a symbolic link" in said.problems[0]


def test_an_export_on_demand_whose_entry_is_broken_is_made_again(deployment):
    owner = Owner(type="export", index_id="idx", export_id="exp_1")
    export = {"owner": owner, "export": ExportReference(id="exp_1", type="index", index_id="idx")}
    deliver(deployment.request(deployment.snapshot(), subpath="x/exp_1", **export), deployment.store, lambda: NOW)
    (deployment.folder / "deliveries/x/exp_1/_vv/log" / f"{0:020}.json").write_text("{")
    (problem, left) = verify(deployment.destination("x/exp_1")).problems
    assert "is not a delivery log entry" in problem
    assert "make a new one" in problem
    assert "is not committed" in left
