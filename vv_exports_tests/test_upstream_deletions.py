"""What is deleted upstream is kept, or erased where an automation says so; and a source that fails erases nothing."""

import copy
import json
import shutil
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from vv_exports.automations.repair import damage_of, repair
from vv_exports.defs.keys import asset_key
from vv_exports.erasure import Cleaned
from vv_exports.errors import NotFoundError
from vv_exports.upstream_deletions import CONFIRMED_AFTER, Deletions, deletions_of, erase_deleted, erasing, mark_missing
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import CONFIG, client_of, reconciled


def config_of(**automations):
    config = copy.deepcopy(CONFIG)
    for name, fields in automations.items():
        config["indexes"]["idx"]["automations"][name] |= fields
    return config


ERASE = config_of(team={"on_upstream_delete": "erase"})
BOTH = config_of(team={"on_upstream_delete": "erase"}, held={"paused": False})


class Looks:
    """Looks at the index, some time apart, and what they erase."""

    def __init__(self, folder, config=ERASE, runs=4):
        for number in range(runs):
            write_run(folder / "archive", run_id=f"run_{number}")
        self.folder = folder
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.open(config)
        self.look()
        reconciled(self.client)

    def open(self, config):
        self.client = client_of(self.folder, config)
        self.pipeline = self.client.pipeline
        self.pipeline.clock = lambda: self.now
        listing = self.pipeline.indexes.listing("idx")
        self.pipeline.automations.begin("idx", listing, self.now)

    def look(self, after=CONFIRMED_AFTER):
        """One look. Returns what it has found, and erases what is due."""
        self.now += after
        listing = self.pipeline.indexes.listing("idx")
        mark_missing(self.pipeline, "idx", listing)
        automations = erasing(self.pipeline.automations, "idx")
        found = deletions_of(self.pipeline, "idx", listing, automations)
        erase_deleted(self.pipeline, found, automations, lambda request, dry_run: Cleaned())
        return found

    def delete(self, *run_ids):
        for run_id in run_ids:
            shutil.rmtree(self.archived / run_id)

    @property
    def archived(self):
        return self.folder / "archive/indexes/idx/prompt_runs"

    def delivered(self, automation="team"):
        top = self.folder / "deliveries/exports" / automation
        return {path.parent.name.removeprefix("prompt_run_id=") for path in top.rglob("part-*")}

    @property
    def kept(self):
        return set(self.pipeline.snapshots.store.kept_runs("idx"))


@pytest.fixture
def looks(tmp_path):
    return Looks(tmp_path)


def test_a_run_that_is_deleted_upstream_is_erased_after_a_second_look_and_the_log_says_why(looks):
    looks.delete("run_1")
    assert looks.look().waiting == ("run_1",)
    assert looks.look(after=CONFIRMED_AFTER / 2).waiting == ("run_1",)
    assert looks.delivered() == {"run_0", "run_1", "run_2", "run_3"}
    assert looks.look().due == ("run_1",)
    assert looks.delivered() == looks.kept == {"run_0", "run_2", "run_3"}
    last = json.loads(max((looks.folder / "deliveries/exports/team/_vv/log").glob("*.json")).read_text())
    assert last["erasure"] == {"reason": "deleted upstream", "runs": ["run_1"]}
    assert looks.look().due == ()


def test_by_default_a_run_that_is_deleted_upstream_is_kept(tmp_path):
    looks = Looks(tmp_path, CONFIG)
    looks.delete("run_1")
    assert [looks.look(), looks.look(timedelta(days=1))] == [Deletions("idx")] * 2
    assert "run_1" in looks.delivered() & looks.kept


def test_a_restored_run_comes_back_only_once_its_erasure_is_undone(looks, tmp_path):
    saved = shutil.copytree(looks.archived / "run_1", tmp_path / "saved")
    looks.delete("run_1")
    looks.look()
    looks.look()
    shutil.copytree(saved, looks.archived / "run_1")
    looks.look()
    reconciled(looks.client)
    assert "run_1" not in looks.delivered() | looks.kept
    looks.client.erasure.undo(run_id="run_1")
    reconciled(looks.client)
    assert "run_1" in looks.delivered() & looks.kept


def test_what_another_automation_keeps_stays_there_and_leaves_the_pipelines_own_copies(tmp_path):
    looks = Looks(tmp_path, BOTH)
    reconciled(looks.client, "held")
    looks.delete("run_1")
    looks.look()
    looks.look()
    assert (looks.delivered("team"), looks.delivered("held")) == (looks.kept, looks.kept | {"run_1"})
    before = looks.delivered("held")
    reconciled(looks.client, "held")
    looks.look()
    assert looks.delivered("held") == before


def test_a_repair_leaves_what_its_collection_keeps_until_a_person_erases_it(tmp_path):
    """It is the only copy, and the same tombstone took it out of the other collection."""
    looks = Looks(tmp_path, BOTH)
    reconciled(looks.client, "held")
    looks.delete("run_1")
    looks.look()
    looks.look()

    def mend():
        (tmp_path / "deliveries/exports/held/_vv/owner.json").unlink()
        listing = looks.pipeline.indexes.listing("idx")
        damage = damage_of(looks.pipeline.automations.get("idx", "held"), listing, looks.pipeline.clock)
        return repair(damage, looks.pipeline.deliveries, listing, None).erased

    assert (mend(), looks.delivered("held")) == ((), looks.kept | {"run_1"})
    backup = shutil.copytree(tmp_path / "deliveries/exports/held", tmp_path / "backup")
    looks.client.erasure.erase(run_id="run_1", reason="ticket 1")
    assert looks.delivered("held") == looks.kept
    shutil.copytree(backup, tmp_path / "deliveries/exports/held", dirs_exist_ok=True)
    (last,) = [
        path for path in (tmp_path / "deliveries/exports/held/_vv/log").iterdir() if '"erasure"' in path.read_text()
    ]
    last.unlink()
    looks.open(BOTH)
    assert (mend(), looks.delivered("held")) == (("run_1",), looks.kept)


def test_many_at_once_are_not_erased_before_a_person_says_so(looks):
    looks.delete("run_1", "run_2")
    looks.look()
    found = looks.look()
    assert (found.due, found.held) == ((), ("run_1", "run_2"))
    (said,) = found.lines
    assert "more than 1 of 4 prompt runs at once" in said
    assert "`vv-exports erase --run run_1 --run run_2 --index idx --reason 'deleted upstream'`" in said
    assert looks.delivered() == {"run_0", "run_1", "run_2", "run_3"}
    looks.client.erasure.erase(run_id=found.held, index_ids=["idx"], reason="deleted upstream")
    assert looks.delivered() == looks.kept == {"run_0", "run_3"}
    assert looks.look().lines == []


def test_a_source_that_lists_nothing_or_fails_erases_nothing(tmp_path):
    looks = Looks(tmp_path, runs=1)
    looks.archived.rename(tmp_path / "away")
    looks.look()
    found = looks.look()
    assert (found.due, found.held) == ((), ("run_0",))
    assert "lists no prompt run" in found.why_held
    (tmp_path / "archive").rename(tmp_path / "unmounted")
    with pytest.raises(NotFoundError):
        looks.look()
    assert looks.delivered() == {"run_0"}


def test_a_run_that_the_listing_left_out_and_the_source_has_is_not_erased(looks):
    listing = looks.pipeline.indexes.listing("idx")
    short = type(listing)([run for run in listing.runs if run.run_id != "run_1"])
    automations = erasing(looks.pipeline.automations, "idx")
    for _ in range(2):
        looks.now += CONFIRMED_AFTER
        mark_missing(looks.pipeline, "idx", short)
        found = deletions_of(looks.pipeline, "idx", short, automations)
        assert (found.due, found.waiting) == ((), ("run_1",))
    assert looks.look().lines == []


def test_what_another_source_does_not_have_is_not_taken_for_deleted(looks, tmp_path):
    shutil.copytree(tmp_path / "archive", tmp_path / "other")
    shutil.rmtree(tmp_path / "other/indexes/idx/prompt_runs/run_1")
    looks.open(ERASE | {"source": {"kind": "local_archive", "path": "other"}})
    looks.look()
    found = looks.look()
    assert (found.due, found.held) == ((), ("run_1",))
    assert "this source, as it is configured now, is not known to have had them" in found.lines[0]
    shutil.rmtree(tmp_path / "other/indexes/idx/prompt_runs/run_2")
    looks.look()
    assert looks.look().due == ("run_2",), "which this source had"


def test_a_run_as_such_and_its_removal_show_in_a_tick_and_at_the_asset(tmp_path):
    looks = Looks(tmp_path)
    instance = looks.client.instance
    sensor = looks.client.definitions.resolve_sensor_def("idx__discovery")

    def tick():
        looks.now += CONFIRMED_AFTER
        return sensor(dg.build_sensor_context(instance=instance, definitions=looks.client.definitions))

    tick()
    looks.delete("run_1")
    assert "1 prompt run not found at the source: run_1; erased when" in tick().skip_reason.skip_message
    done = tick()
    assert "1 prompt run erased, since deleted upstream: run_1" in done.skip_reason.skip_message
    (event,) = done.asset_events
    assert (event.asset_key, event.partition) == (asset_key("idx", "exports", "team"), "run_1")
    assert event.metadata["erased"].value == "deleted upstream"
    assert "run_1" not in instance.get_dynamic_partitions("prompt_runs__idx")


def test_a_paused_automation_erases_when_it_is_resumed(tmp_path):
    looks = Looks(tmp_path)
    sensor = looks.client.definitions.resolve_sensor_def("idx__discovery")
    looks.client.automations.pause("idx", "team")
    looks.delete("run_1")

    def tick():
        looks.now += CONFIRMED_AFTER
        context = dg.build_sensor_context(instance=looks.client.instance, definitions=looks.client.definitions)
        return sensor(context).skip_reason.skip_message

    assert "erased" not in tick() + tick()
    looks.client.automations.resume("idx", "team")
    assert "1 prompt run erased" in tick()


@pytest.mark.slow
def test_a_run_of_the_automation_erases_and_a_dry_run_says_so_before(tmp_path):
    looks = Looks(tmp_path)
    looks.client.automations.run("idx", "team")
    looks.delete("run_1")
    assert "run_1; erased when" in looks.client.automations.run("idx", "team").not_erased[0]
    looks.now += CONFIRMED_AFTER
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    plan = looks.client.automations.plan_run("idx", "team")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert plan.erased == ("run_1",)
    assert {path.split("prompt_run_id=")[1].split("/")[0] for path in plan.erased_files} == {"run_1"}
    done = looks.client.automations.run("idx", "team")
    assert (done.erased, done.already_delivered) == (("run_1",), tuple(plan.already_delivered))
    assert looks.delivered() == {"run_0", "run_2", "run_3"}
