"""``verify --repair``: whatever somebody did to a collection, what can be mended is, and the rest is said."""

import json
import shutil
import uuid

import pytest

from vv_exports.automations.repair import damage_of, repair
from vv_exports.client.anywhere import verify_at
from vv_exports.defs.keys import asset_key, reconciliation_key
from vv_exports.defs.launches import launch
from vv_exports.delivery.checkpoints import write_checkpoint
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import FORMAT_VERSION
from vv_exports.delivery.log import read_log
from vv_exports.delivery.verify import verify
from vv_exports.errors import DeliveredDataError, DestinationError
from vv_exports.reader import open_delivery
from vv_exports_tests.archives import SCHEMA, segment, write_run
from vv_exports_tests.cli.running import run, tree
from vv_exports_tests.delivery.test_broken_logs import _deliver
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, delayed
from vv_exports_tests.stores import STORES

TEAM = "exports/team"
ROWS = {"run_0": 1, "run_1": 2, "run_2": 3}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """A collection of three entries, each of one run."""
    folder = tmp_path_factory.mktemp("delivered")
    client = client_of(folder)
    for number in range(3):
        write_run(folder / "archive", run_id=f"run_{number}", segments=number + 1)
        _deliver(client)
    return folder


@pytest.fixture
def team(delivered, tmp_path):
    """A copy of it."""
    shutil.copytree(delivered, tmp_path, dirs_exist_ok=True)
    return tmp_path / "deliveries" / TEAM


def entry(team, number):
    return team / f"_vv/log/{number:020}.json"


def file_of(team, run_id):
    (found,) = team.rglob(f"prompt_run_id={run_id}/*.parquet")
    return found


def mend(folder, client=None, delivered_before=()):
    """What the command does, without Dagster, which takes a second."""
    pipeline = (client or client_of(folder)).pipeline
    automation, listing = pipeline.automations.get("idx", "team"), pipeline.indexes.listing("idx")
    damage = damage_of(automation, listing, pipeline.clock, delivered_before)
    return repair(damage, pipeline.deliveries, listing, None)


def rows_by_the_log(team):
    delivery = open_delivery(team)
    return {one.run_id: delivery.table(run=one.run_id).num_rows for one in delivery.runs()}


def _flip(path):
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)


def _foreign(team, number, **told):
    told = {"index_id": "other", "automation": "else", **told}
    document = json.loads(entry(team, min(number, 2)).read_text())
    document["sequence"], document["export"] = number, {**document["export"], **told}
    entry(team, number).write_text(json.dumps(document))


def _shuffled(team):
    shutil.copy(entry(team, 0), entry(team, 1))
    entry(team, 2).write_bytes(b"")
    (team / "_vv/owner.json").unlink()
    file_of(team, "run_0").unlink()
    _flip(file_of(team, "run_1"))


HARMS = {
    "a file is altered": (lambda team: _flip(file_of(team, "run_1")), "has", set()),
    "a file is removed": (lambda team: file_of(team, "run_1").unlink(), "is missing", set()),
    "a file is cut short": (lambda team: file_of(team, "run_1").write_bytes(b"PAR1"), "has 4 bytes", set()),
    "the last entry is cut off": (lambda team: entry(team, 2).unlink(), "is not committed", set()),
    "the last entry is cut short": (lambda team: entry(team, 2).write_bytes(b"{"), "000002.json is not", {2}),
    "a hole in the middle": (lambda team: entry(team, 1).unlink(), "000001.json is missing", {1}),
    "a hole at the beginning": (lambda team: entry(team, 0).unlink(), "000000.json is missing", {0}),
    "an entry in the middle is no entry": (lambda team: entry(team, 1).write_bytes(b"\xff"), "000001.json is not", {1}),
    "an entry is another one's copy": (lambda team: shutil.copy(entry(team, 2), entry(team, 1)), "says that it", {1}),
    "an entry of another index": (lambda team: _foreign(team, 1), "is an entry of automation 'else'", {1}),
    "another index's entry behind the last": (lambda team: _foreign(team, 3), "000003.json is an entry of", {3}),
    "notes far behind the last": (lambda team: entry(team, 7).write_text("notes"), "000003.json is missing", {7}),
    "all entries are unusable": (lambda team: [entry(team, n).write_bytes(b"") for n in range(3)], "is not", {0, 1, 2}),
    "the log is deleted": (lambda team: shutil.rmtree(team / "_vv/log"), "no delivery log says", set()),
    "the owner file is deleted": (lambda team: (team / "_vv/owner.json").unlink(), "owner.json is missing", set()),
    "the owner file is junk": (lambda team: (team / "_vv/owner.json").write_text("{"), "does not name an owner", set()),
    "everything at once": (_shuffled, "owner.json is missing", {1, 2}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_somebody_did_is_named_and_mended(team, tmp_path, harm):
    act, said, mended = HARMS[harm]
    act(team)
    before = {path.read_bytes() for path in (team / "_vv").rglob("0*.json")}
    client = client_of(tmp_path)
    assert said in "\n".join(verify(client.pipeline.automations.get("idx", "team").destination).problems)
    done = mend(tmp_path)
    assert done.problems == {}
    assert {one.sequence for one in done.mending.entries} == mended
    (fine,) = verify_at(str(team))
    assert (fine.problems, fine.prompt_runs, fine.foreign) == ((), 3, ())
    assert rows_by_the_log(team) == ROWS
    after = {path.read_bytes() for path in (team / "_vv").rglob("0*.json")}
    assert before <= after, "nothing of the log is gone"
    assert _deliver(client_of(tmp_path)) == [], "nothing is left to be done"
    write_run(tmp_path / "archive", run_id="run_3")
    assert _deliver(client_of(tmp_path)) == ["run_3"]
    assert rows_by_the_log(team) == {**ROWS, "run_3": 3}


def test_what_takes_several_deliveries_is_mended_where_all_entries_are_unusable(team, tmp_path):
    """The entries of the repair come where unusable ones have been."""
    HARMS["all entries are unusable"][0](team)
    config = json.loads(json.dumps(CONFIG))
    config["indexes"]["idx"]["automations"]["team"]["max_runs_per_delivery"] = 1
    assert mend(tmp_path, client_of(tmp_path, config)).problems == {}
    assert (rows_by_the_log(team), verify_at(str(team))[0].problems) == (ROWS, ())


def test_a_foreign_file_is_named_and_stays(team, tmp_path):
    stranger = team / "segments/notes.parquet"
    stranger.write_bytes(b"somebody's")
    write_run(tmp_path / "archive", run_id="run_3")
    assert mend(tmp_path).deliveries == [], "what is new is not the repair's to deliver"
    assert stranger.read_bytes() == b"somebody's"
    (found,) = verify_at(str(team))
    assert found.problems == (f"{stranger} is not the pipeline's, and a glob of the table's folder takes it",)


def test_what_an_entry_held_that_is_lost_with_its_files_is_delivered_again_where_it_is_remembered(team, tmp_path):
    """Nothing in the folder tells of it: the repair said that all was fine."""
    entry(team, 1).unlink()
    shutil.rmtree(file_of(team, "run_1").parent)
    done = mend(tmp_path, delivered_before=("run_0", "run_1", "run_2", "run_gone"))
    assert rows_by_the_log(team) == ROWS
    assert list(done.problems) == ["run_gone"]
    assert "neither the source nor a snapshot has it" in done.problems["run_gone"]


def test_what_is_damaged_and_waits_for_its_contract_is_named_each_time(tmp_path):
    rows = [segment(0, metadata={}), segment(1, metadata={"title": "kept"})]
    write_run(tmp_path / "archive", run_id="run_0", schema={**SCHEMA, "required": ["title"]}, segments=rows)
    _deliver(client_of(tmp_path))
    file_of(tmp_path / "deliveries" / TEAM, "run_0").unlink()
    config = json.loads(json.dumps(CONFIG))
    config["indexes"]["idx"]["automations"]["team"]["contract"] = "block"
    for _ in range(2):
        assert "contract" in mend(tmp_path, client_of(tmp_path, config)).problems["run_0"]
    assert mend(tmp_path).problems == {}
    assert rows_by_the_log(tmp_path / "deliveries" / TEAM) == {"run_0": 2}


@pytest.mark.parametrize("harm", ["a file is altered", "a hole in the middle", "the last entry is cut off"])
def test_what_the_source_has_no_more_is_mended_from_the_snapshot(team, tmp_path, harm):
    HARMS[harm][0](team)
    for number in range(3):
        shutil.rmtree(tmp_path / f"archive/indexes/idx/prompt_runs/run_{number}", ignore_errors=True)
    assert mend(tmp_path).problems == {}
    assert verify_at(str(team))[0].problems == ()
    assert rows_by_the_log(team) == ROWS


@pytest.mark.parametrize("harm", ["a file is altered", "the last entry is cut off"])
def test_what_is_kept_mends_a_collection_while_the_source_is_out_of_reach(team, tmp_path, harm):
    HARMS[harm][0](team)
    (tmp_path / "archive").rename(tmp_path / "away")
    done = run(tmp_path, "verify", "idx", "team", "--repair")
    assert (done.code, "the source cannot be asked" in done.err) == (0, True)
    assert rows_by_the_log(team) == ROWS


def test_an_entry_of_a_later_version_is_nothing_to_mend(team, tmp_path):
    entry(team, 2).write_text(f'{{"format_version": {FORMAT_VERSION + 1}}}')
    before = tree(team)
    with pytest.raises(DeliveredDataError, match="Upgrade vv_exports"):
        mend(tmp_path)
    assert tree(team) == before


def test_a_link_in_the_place_of_an_entry_is_to_be_moved_and_then_it_is_mended(team, tmp_path):
    entry(team, 1).rename(tmp_path / "elsewhere")
    entry(team, 1).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeliveredDataError, match="Move it out of the folder"):
        mend(tmp_path)
    entry(team, 1).unlink()
    mend(tmp_path)
    assert rows_by_the_log(team) == ROWS


@pytest.mark.parametrize("has_log", [True, False])
def test_a_folder_that_may_be_somebody_elses_is_left_alone(team, tmp_path, has_log):
    owner = json.loads((team / "_vv/owner.json").read_text())
    (team / "_vv/owner.json").write_text(json.dumps({**owner, "automation": "other"}))
    if not has_log:
        for number in range(3):
            entry(team, number).write_bytes(b"")
    before = tree(team)
    with pytest.raises(DestinationError, match="belongs to automation 'other'"):
        mend(tmp_path)
    (team / "_vv/owner.json").unlink()
    if not has_log:
        with pytest.raises(DestinationError, match="nothing says whose it is") as raised:
            mend(tmp_path)
        assert {**tree(team), "_vv/owner.json": b""} == {**before, "_vv/owner.json": b""}
        document = str(raised.value).partition("write ")[2].partition(" into ")[0]
        (team / "_vv/owner.json").write_text(document)  # as it says
    mend(tmp_path)
    assert rows_by_the_log(team) == ROWS


def test_where_nothing_says_whose_a_folder_is_the_pipeline_remembers_that_it_delivered_there(tmp_path):
    write_run(tmp_path / "archive", run_id="run_0", segments=1)
    _deliver(client_of(tmp_path))
    team = tmp_path / "deliveries" / TEAM
    entry(team, 0).write_bytes(b"")
    (team / "_vv/owner.json").write_bytes(b"")
    mend(tmp_path)
    assert (rows_by_the_log(team), verify_at(str(team))[0].problems) == ({"run_0": 1}, ())


def test_readers_see_a_broken_log_until_it_holds_everything(team, tmp_path):
    """At each write of the repair, and so between all of them."""
    _shuffled(team)
    client, seen = client_of(tmp_path), []

    def look():
        try:
            seen.append(rows_by_the_log(team))
        except DeliveredDataError:
            seen.append(None)

    _watched(client, {number: delayed(look) for number in range(200)})
    mend(tmp_path, client)
    look()
    assert len(seen) > 5
    assert {json.dumps(one) for one in seen} == {json.dumps(one) for one in (None, ROWS)}


def _watched(client, faults):
    automation = client.pipeline.automations.get("idx", "team")
    connector = FaultyConnector(automation.destination.connector, faults, only=frozenset({"put", "create", "delete"}))
    automation.destination = Destination(connector, TEAM, automation.destination.owner)
    return connector


@pytest.mark.slow
def test_killed_at_any_write_the_same_again_completes_it(delivered, tmp_path):
    number, is_over = 0, False
    while not is_over:
        folder = tmp_path / str(number)
        shutil.copytree(delivered, folder)
        _shuffled(folder / "deliveries" / TEAM)
        client = client_of(folder)
        _watched(client, {number: crashes})
        try:
            mend(folder, client)
            is_over = True
        except Crash:
            mend(folder)
        assert verify_at(str(folder / "deliveries" / TEAM))[0].problems == ()
        assert rows_by_the_log(folder / "deliveries" / TEAM) == ROWS
        number += 1
    assert number > 5


def test_what_was_erased_does_not_come_back_with_a_log_that_lost_it(team, tmp_path):
    client = client_of(tmp_path)
    client.erasure.erase(run_id="run_1", reason="ticket 1")
    entry(team, 3).write_bytes(b"{")  # the one that says so
    done = mend(tmp_path)
    assert (done.erased, done.problems) == (("run_1",), {})
    assert set(rows_by_the_log(team)) == {"run_0", "run_2"}
    assert verify_at(str(team))[0].problems == ()
    assert not list(team.rglob("prompt_run_id=run_1/*"))


def test_what_an_erasure_could_not_reach_is_mended_without_the_medium_and_then_the_erasure_comes_to_its_end(tmp_path):
    """The run was dropped: nobody may deliver a snapshot that holds the medium, and the entry was replaced all the
    same."""
    team = tmp_path / "deliveries" / TEAM
    for number in range(2):
        rows = [segment(0), segment(1, video="vid_erased")]
        write_run(tmp_path / "archive", run_id=f"run_{number}", segments=rows)
        _deliver(client_of(tmp_path))
    entry(team, 0).unlink()
    erase = {"video_id": "vid_erased", "reason": "ticket 1"}
    assert client_of(tmp_path).erasure.erase(**erase).unreached
    assert mend(tmp_path).problems == {}
    assert rows_by_the_log(team)["run_0"] == 1
    assert client_of(tmp_path).erasure.erase(**erase).unreached == ()
    assert (rows_by_the_log(team), verify_at(str(team))[0].problems) == ({"run_0": 1, "run_1": 1}, ())


def test_what_was_erased_is_named_where_a_backup_of_the_folder_brings_it_back(team, tmp_path):
    """All that is there is as it was delivered: by the log alone, nothing is wrong."""
    backup = shutil.copytree(team, tmp_path / "backup")
    client_of(tmp_path).erasure.erase(run_id="run_1", reason="ticket 1")
    shutil.rmtree(team)
    shutil.copytree(backup, team)
    repairs = client_of(tmp_path).repairs
    for found in (
        repairs.verify("idx", "team"),
        *repairs.verified_at("conn_export"),
        *repairs.verified_at("conn_export", TEAM),
    ):
        assert found.problems == (f"{team} holds prompt run run_1, which was erased",)
    assert repairs.plan("idx", "team").is_fine
    assert mend(tmp_path).erased == ("run_1",)
    assert set(rows_by_the_log(team)) == {"run_0", "run_2"}
    assert not list(team.rglob("prompt_run_id=run_1/*"))
    assert client_of(tmp_path).repairs.verify("idx", "team").problems == ()


def test_the_command_says_what_it_found_and_did_and_a_dry_run_writes_nothing(team, tmp_path):
    _shuffled(team)
    assert run(tmp_path, "verify", "idx", "team").code == 1
    before = tree(tmp_path / "deliveries"), tree(tmp_path / "storage")
    said = run(tmp_path, "verify", "idx", "team", "--repair", "--dry-run")
    assert (said.code, tree(tmp_path / "deliveries"), tree(tmp_path / "storage")) == (0, *before)
    assert "would be mended: _vv/log/00000000000000000001.json" in said.out
    said = run(tmp_path, "verify", "idx", "team", "--repair", "--json")
    (done,) = said.document
    assert (said.code, done["owner_restored"], done["after"]["problems"]) == (0, True, [])
    assert set(done["delivered"]) == set(ROWS)
    said = run(tmp_path, "verify", "conn_export", "--repair")
    assert said.code == 0
    assert ": fine (3 prompt runs" in said.out


def test_a_launch_from_the_ui_mends_a_collection_or_says_what_it_would_do(team, tmp_path):
    _shuffled(team)
    client, before = client_of(tmp_path), tree(team)
    op, asset = client.names.reconciliation("idx", "team"), reconciliation_key("idx", "team")
    asked = {"repair": True, "dry_run": True}
    planned = launch(client.instance, client.definitions, [asset], config={op: asked})
    assert (tree(team), planned.is_success) == (before, True)
    assert "would deliver 3 prompt runs" in client.instance.get_run_by_id(planned.run_id).tags["vv_exports/plan"]
    done = launch(client.instance, client.definitions, [asset], config={op: {"repair": True}})
    assert (done.is_success, verify_at(str(team))[0].problems) == (True, ())
    shown = client.instance.get_materialized_partitions(asset_key("idx", "exports", "team"))
    assert shown == set(ROWS)


def test_what_neither_source_nor_snapshot_have_is_named_and_its_files_stay(team, tmp_path):
    entry(team, 2).unlink()
    lost, missing = file_of(team, "run_2"), file_of(team, "run_1")
    missing.unlink()
    shutil.rmtree(tmp_path / "storage")
    for path in [*(tmp_path / "archive").rglob("run_1*"), *(tmp_path / "archive").rglob("run_2*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    said = run(tmp_path, "verify", "idx", "team", "--repair")
    assert said.code == 1
    assert f"{missing} is missing" in said.out
    assert f"{lost} is not committed" in said.out
    assert "may be the only copy" in said.out
    assert lost.exists()


@pytest.mark.parametrize("keeps_owner", [False, True])
def test_a_folder_that_was_emptied_gets_back_what_was_in_it(tmp_path, keeps_owner):
    """Also the history that a backfill had brought."""
    write_run(tmp_path / "archive", run_id="run_0", segments=1)
    config = json.loads(json.dumps(client_of.__defaults__[0]))
    config["indexes"]["idx"]["automations"]["team"]["start"] = "now"
    client = client_of(tmp_path, config)
    client.automations.run("idx", "team")
    assert client.automations.backfill("idx", "team").delivered == ("run_0",)
    shutil.rmtree(tmp_path / "deliveries/exports/team" / ("_vv/log" if keeps_owner else ""))
    shutil.rmtree(tmp_path / "deliveries/exports/team/segments", ignore_errors=True)
    (found,) = client.verify("conn_export")
    assert "has neither a log nor data" in found.problems[0]
    done = client.repairs.repair("idx", "team")
    assert (done.delivered, done.after.problems, done.after.prompt_runs) == (("run_0",), (), 1)


def test_a_copy_is_not_repaired(team, tmp_path):
    said = run(tmp_path, "verify", str(team), "--repair")
    assert (said.code, "INDEX NAME" in said.err) == (2, True)
    assert run(tmp_path, "verify", str(team), "--dry-run").code == 2
    assert read_log(Destination(client_of(tmp_path).pipeline.connectors["conn_export"], TEAM)).count == 3


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_hole_before_a_checkpoint_is_filled_where_all_that_the_checkpoint_tells_can_be_delivered(
    team, tmp_path, monkeypatch, is_gone
):
    """Only a lost entry and the checkpoint tell of the run: where nothing is left of it, that stays its place."""
    client = client_of(tmp_path)
    destination = Destination(client.pipeline.connectors["conn_export"], TEAM)
    write_checkpoint(destination, read_log(destination))
    entry(team, 1).unlink()
    if is_gone:
        for path in (tmp_path / "archive").rglob("run_1*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(tmp_path / "storage")
        before = read_log(destination).runs.keys()
        with pytest.raises(DeliveredDataError, match="'run_1' only a checkpoint of the log tells"):
            mend(tmp_path)
        assert (read_log(destination).runs.keys(), entry(team, 1).exists()) == (before, False)
        return
    assert mend(tmp_path).problems == {}
    assert verify_at(str(team))[0].problems == ()
    assert rows_by_the_log(team) == ROWS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seaweedfs", "gcs_that_does_not_decide"])
def test_a_collection_in_a_store_is_mended(team, tmp_path, name, request):
    """The same harm, done to a copy on disk that is then uploaded."""
    _shuffled(team)
    client = client_of(tmp_path)
    with STORES[name](request) as connect:
        connector = connect(f"repair/{uuid.uuid4().hex}")
        for path in sorted(path for path in team.rglob("*") if path.is_file()):
            connector.put(path, f"{TEAM}/{path.relative_to(team)}")
        connector.remember_in(client.pipeline.storage)
        automation = client.pipeline.automations.get("idx", "team")
        automation.destination = Destination(connector, TEAM, automation.destination.owner)
        assert mend(tmp_path, client).problems == {}
        found = verify(automation.destination)
        assert (found.problems, found.prompt_runs, found.foreign) == ((), 3, ())
