"""An automation that moves tells the place that it leaves; what was left can be removed, and can be returned to."""

import copy
import json
import logging
import shutil
from pathlib import Path

import pytest

from vv_exports.automations.deliver import deliver_batch, take_snapshots
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.left_places import left_destinations
from vv_exports.delivery.verify import verify
from vv_exports.errors import DestinationError, TransientError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of
from vv_exports_tests.fakes.faulty_connector import FaultyConnector

OLD, NEW = "exports/team", "exports/moved"


def _client(folder: Path, subpath: str = OLD, connector: str = "conn_export"):
    config = copy.deepcopy(CONFIG)
    team = config["indexes"]["idx"]["automations"]["team"]
    team["destination_connector_id"], team["destination_subpath"] = connector, subpath
    return client_of(folder, config)


def _deliver(client, *run_ids: str) -> list[str]:
    """What the command does, without Dagster, which takes a second. Returns the runs that were delivered."""
    pipeline = client.pipeline
    automation = pipeline.automations.get("idx", "team")
    automation.claim_again(pipeline.clock())
    batch = take_snapshots(automation, run_ids, pipeline.clock())
    outcome = deliver_batch(automation, pipeline.deliveries, batch, None)
    assert outcome.problems == {}
    return [run.run_id for delivery in outcome.deliveries for run in delivery.prompt_runs if run.written]


def _owner(folder: Path, subpath: str) -> dict:
    return json.loads((folder / "deliveries" / subpath / "_vv/owner.json").read_bytes())


def _verify(client, subpath: str):
    return verify(Destination(client.pipeline.connectors["conn_export"], subpath))


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """A collection of two runs at its first place."""
    folder = tmp_path_factory.mktemp("delivered")
    for number in range(2):
        write_run(folder / "archive", run_id=f"run_{number}", segments=number + 1)
    assert _deliver(_client(folder), "run_0", "run_1") == ["run_0", "run_1"]
    return folder


@pytest.fixture
def folder(delivered, tmp_path):
    """A copy of it."""
    shutil.copytree(delivered, tmp_path, dirs_exist_ok=True)
    # The copy is another place, and the pipeline's storage remembers places by their address.
    shutil.rmtree(tmp_path / "storage" / "automations" / "idx" / "team" / "places", ignore_errors=True)
    assert _deliver(_client(tmp_path), "run_0") == []
    return tmp_path


@pytest.fixture
def moved(folder):
    client = _client(folder, NEW)
    assert _deliver(client, "run_0") == ["run_0"]
    return client


def test_the_first_delivery_at_a_new_place_lets_the_old_one_say_since_when_and_where_to(folder):
    before = _owner(folder, OLD)
    assert "left" not in before
    client = _client(folder, NEW)
    _deliver(client, "run_0")
    left = _owner(folder, OLD)["left"]
    assert left["to"] == str(folder / "deliveries" / NEW)
    assert left["at"] is not None
    assert {**_owner(folder, OLD), "left": None} == {**before, "left": None}
    assert "left" not in _owner(folder, NEW)
    said = _verify(client, OLD)
    assert said.problems == (), "it is as it was delivered"
    assert said.left is not None
    assert said.left.to == left["to"]
    assert _verify(client, NEW).left is None


def test_the_automation_and_the_run_that_moved_it_say_what_is_left(folder):
    client = _client(folder, NEW)
    outcome = client.automations.run("idx", "team", ["run_0"])
    assert (outcome.delivered, outcome.left) == (("run_0",), (str(folder / "deliveries" / OLD),))
    assert list(client.automations.retrieve("idx", "team").left) == [str(folder / "deliveries" / OLD)]
    assert client.automations.run("idx", "team", ["run_1"]).left == (), "it is said once"


def test_a_delivery_at_the_same_place_leaves_nothing(folder):
    client = _client(folder)
    write_run(folder / "archive", run_id="run_2")
    _deliver(client, "run_2")
    assert client.pipeline.automations.get("idx", "team").places.left() == ()
    assert left_destinations(client.pipeline.connectors["conn_export"]) == {}


def test_moving_back_takes_the_old_place_over_again_and_all_that_its_log_holds_counts(folder, moved):
    client = _client(folder)
    assert _deliver(client, "run_0", "run_1") == [], "it holds both"
    assert "left" not in _owner(folder, OLD)
    assert "left" in _owner(folder, NEW)
    (left,) = client.pipeline.automations.get("idx", "team").places.left()
    assert left.place.subpath == NEW


def test_a_reconciliation_at_the_old_place_takes_it_over_again_where_nothing_is_due(folder, moved):
    client = _client(folder)
    client.pipeline.automations.get("idx", "team").claim_again(client.pipeline.clock())
    assert "left" not in _owner(folder, OLD)


def test_an_automation_that_is_back_where_nothing_is_due_has_left_the_other_place_and_not_this_one(folder, moved):
    client = _client(folder)
    outcome = client.automations.run("idx", "team", ["run_0"])
    new = str(folder / "deliveries" / NEW)
    assert (outcome.delivered, outcome.left) == ((), (new,))
    assert list(client.automations.retrieve("idx", "team").left) == [new]
    assert _owner(folder, NEW)["left"]["to"] == str(folder / "deliveries" / OLD)


def test_an_old_place_that_is_out_of_reach_is_a_warning_and_is_told_by_a_later_delivery(folder, caplog):
    client = _client(folder, NEW)
    pipeline = client.pipeline
    reached = pipeline.connectors["conn_export"]

    def away(perform):
        raise TransientError("conn_export: away")

    class Away(FaultyConnector):
        def read(self, key: str) -> bytes | None:
            return away(None) if key.startswith(OLD) else reached.read(key)

    pipeline.connectors["conn_export"] = Away(reached, {})
    with caplog.at_level(logging.WARNING):
        assert _deliver(client, "run_0") == ["run_0"]
    assert "does not say so to its readers yet: conn_export: away" in caplog.text
    assert "left" not in _owner(folder, OLD)
    since = pipeline.automations.get("idx", "team").places.left()[0].left.at
    pipeline.connectors["conn_export"] = reached
    assert _deliver(client, "run_1") == ["run_1"]
    assert _verify(client, OLD).left.at == since, "since it was left, not since it was told"


def test_a_place_whose_connector_is_gone_from_the_configuration_is_a_warning(folder, caplog):
    config = copy.deepcopy(CONFIG)
    team = config["indexes"]["idx"]["automations"]["team"]
    team["destination_connector_id"] = "elsewhere"
    config["connectors"]["elsewhere"] = {**config["connectors"]["conn_export"], "export_base_path": "elsewhere"}
    for one in config["indexes"]["idx"]["automations"].values():
        one["destination_connector_id"] = "elsewhere"
    del config["connectors"]["conn_export"]
    with caplog.at_level(logging.WARNING):
        assert _deliver(client_of(folder, config), "run_0") == ["run_0"]
    assert "no connector of the configuration leads there" in caplog.text


def test_an_old_place_that_is_somebody_elses_by_now_is_not_touched(folder):
    owner = folder / "deliveries" / OLD / "_vv/owner.json"
    theirs = {**_owner(folder, OLD), "automation": "renamed"}
    owner.write_text(json.dumps(theirs))
    client = _client(folder, NEW)
    _deliver(client, "run_0")
    assert _owner(folder, OLD) == theirs
    assert client.pipeline.automations.get("idx", "team").places.left() == ()


def test_what_was_left_is_listed_and_removed_and_what_is_not_the_pipelines_stays(folder, moved):
    pipeline = moved.pipeline
    top = folder / "deliveries" / OLD
    (top / "segments" / "notes.txt").write_text("somebody's")
    outside = folder / "outside.parquet"
    outside.write_bytes(b"PAR1")
    (path,) = top.glob("segments/*/prompt_run_id=run_1/*")
    path.unlink()
    path.symlink_to(outside)
    there = {one.relative_to(top).as_posix() for one in top.rglob("*") if one.is_file() or one.is_symlink()}
    (planned,) = moved.vacuum_abandoned("conn_export", dry_run=True)
    assert {*planned.files, *planned.left_alone} == there
    assert planned.left_alone == ("segments/notes.txt", path.relative_to(top).as_posix())
    assert planned.left.to == str(folder / "deliveries" / NEW)
    (done,) = moved.vacuum_abandoned("conn_export")
    assert (done.files, done.left_alone, done.dry_run) == (planned.files, planned.left_alone, False)
    assert {one.relative_to(top).as_posix() for one in top.rglob("*") if not one.is_dir() or one.is_symlink()} == {
        *planned.left_alone
    }
    assert outside.exists()
    assert moved.vacuum_abandoned("conn_export") == []
    assert pipeline.automations.get("idx", "team").places.left() == ()
    assert _verify(moved, NEW).problems == ()


def test_a_removal_that_dies_can_be_repeated(folder, moved):
    pipeline = moved.pipeline
    whole = pipeline.connectors["conn_export"]

    def dies(perform):
        raise TransientError("conn_export: away")

    pipeline.connectors["conn_export"] = FaultyConnector(whole, {1: dies}, only=frozenset({"delete"}))
    with pytest.raises(TransientError):
        moved.vacuum_abandoned("conn_export")
    pipeline.connectors["conn_export"] = whole
    assert left_destinations(whole).keys() == {OLD}, "the owner file goes last, and says so still"
    (done,) = moved.vacuum_abandoned("conn_export")
    assert done.files == ("_vv/owner.json",)
    assert not (folder / "deliveries" / OLD).exists()


def test_a_place_that_an_automation_of_the_configuration_uses_is_never_removed(folder, moved, caplog):
    back = _client(folder)  # moved back, and nothing was delivered there yet
    with caplog.at_level(logging.WARNING):
        assert back.vacuum_abandoned("conn_export") == []
    assert "is where an automation of the configuration delivers" in caplog.text
    with pytest.raises(DestinationError, match="is where an automation of the configuration delivers"):
        back.vacuum_abandoned("conn_export", OLD)


def test_a_place_that_is_used_through_another_connector_is_not_removed_either(folder, moved):
    config = copy.deepcopy(CONFIG)
    team = config["indexes"]["idx"]["automations"]["team"]
    config["connectors"]["wide"] = {**config["connectors"]["conn_export"]}
    config["connectors"]["narrow"] = {**config["connectors"]["conn_export"], "export_base_path": "deliveries/exports"}
    team["destination_connector_id"], team["destination_subpath"] = "narrow", "team"
    back = client_of(folder, config)
    before = (folder / "deliveries" / OLD / "_vv/owner.json").read_bytes()
    with pytest.raises(DestinationError, match="is where an automation of the configuration delivers"):
        back.vacuum_abandoned("wide", OLD)
    assert (folder / "deliveries" / OLD / "_vv/owner.json").read_bytes() == before


def test_a_place_that_another_automation_is_to_have_is_removed_where_it_is_asked_for(folder, moved, caplog):
    config = copy.deepcopy(CONFIG)
    automations = config["indexes"]["idx"]["automations"]
    automations["team"]["destination_subpath"] = NEW
    automations["next"] = {**automations["team"], "destination_subpath": OLD}
    client = client_of(folder, config)
    asks = f"vv-exports vacuum conn_export --abandoned --subpath {OLD}"
    following = client.pipeline.automations.get("idx", "next")
    with pytest.raises(DestinationError, match=f"belongs to automation 'team'.* was left on .*`{asks}` removes it"):
        following.claim_again(client.pipeline.clock())
    with caplog.at_level(logging.WARNING):
        assert client.vacuum_abandoned("conn_export") == [], "not by the way"
    assert f"`{asks}` removes it" in caplog.text
    (done,) = client.vacuum_abandoned("conn_export", OLD)
    assert done.owner.automation == "team"
    batch = take_snapshots(following, ["run_0"], client.pipeline.clock())
    assert deliver_batch(following, client.pipeline.deliveries, batch, None).problems == {}
    assert _owner(folder, OLD)["automation"] == "next"


def test_a_copy_of_a_place_that_was_left_is_somebodys_and_stays(folder, moved, caplog):
    copy_ = folder / "deliveries/kept/for-the-audit"
    shutil.copytree(folder / "deliveries" / OLD, copy_)
    before = {path: path.read_bytes() for path in copy_.rglob("*") if path.is_file()}
    with pytest.raises(DestinationError, match=r"for-the-audit is a copy of .*exports/team, .* is not removed"):
        moved.vacuum_abandoned("conn_export", "kept/for-the-audit")
    with caplog.at_level(logging.WARNING):
        assert [one.subpath for one in moved.vacuum_abandoned("conn_export")] == [OLD]
    assert "for-the-audit is a copy of" in caplog.text
    assert {path: path.read_bytes() for path in before} == before


def test_a_place_that_nobody_left_is_not_removed(folder, moved):
    for subpath in ("exports/nothing", "exports"):
        with pytest.raises(DestinationError, match=r"is where an automation|is not a collection that"):
            moved.vacuum_abandoned("conn_export", subpath)


def test_an_automation_that_is_gone_from_the_configuration_has_left_nothing(folder):
    config = copy.deepcopy(CONFIG)
    del config["indexes"]["idx"]["automations"]["team"]
    client = client_of(folder, config)
    before = {path: path.read_bytes() for path in (folder / "deliveries").rglob("*") if path.is_file()}
    assert client.vacuum_abandoned("conn_export") == []
    with pytest.raises(DestinationError, match="is not a collection that its automation has left"):
        client.vacuum_abandoned("conn_export", OLD)
    assert {path: path.read_bytes() for path in before} == before
