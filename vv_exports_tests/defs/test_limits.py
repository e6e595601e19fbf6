"""In somebody's own project, the limits that the package relies on are in their ``dagster.yaml`` or nowhere."""

import logging
import re
from pathlib import Path

import dagster as dg
import pytest
import yaml

import vv_exports
from vv_exports.defs.instance import open_instance
from vv_exports.defs.limits import missing_limits, warn_of_missing_limits

POOLS = ["destination/idx/team"]


def test_an_instance_that_the_package_makes_has_all_limits(tmp_path):
    with open_instance({}, tmp_path) as instance:
        assert missing_limits(instance, POOLS) == []


def test_an_instance_of_somebodys_own_is_told_what_it_lacks_once(tmp_path, caplog):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        with caplog.at_level(logging.WARNING, "vv_exports"):
            warn_of_missing_limits(instance, POOLS)
            warn_of_missing_limits(instance, POOLS)
        (told,) = caplog.messages
        for name in (*POOLS, "RunQueue", "vv_exports/connector", "run_monitoring"):
            assert name in told
        for pool in POOLS:
            instance.event_log_storage.set_concurrency_slots(pool, 1)
        assert [one.partition(",")[0] for one in missing_limits(instance, POOLS)] == [
            "its run_coordinator is not vv_exports.defs.run_queue.RunQueue",
            "runs of a connector",
            "run_monitoring is off",
        ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}}, "queues"),
        ({"concurrency": {"pools": {"default_limit": 4}}}, "destination/idx/team has no limit of 1"),
    ],
)
def test_settings_that_take_a_limit_away_are_seen(tmp_path, settings, said):
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert said in missing_limits(instance, POOLS)[0]


def test_a_limit_for_each_connector_is_said_as_the_documentation_shows(tmp_path):
    root = Path(vv_exports.__file__).parents[1]
    page = (root / "docs" / "automations.md").read_text()
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "tag_concurrency" in block]
    settings = yaml.safe_load((root / "vv_exports" / "defs" / "dagster.yaml").read_text())
    limits = yaml.safe_load(shown)["concurrency"]["runs"]["tag_concurrency_limits"]
    settings["concurrency"]["runs"]["tag_concurrency_limits"] = limits
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert missing_limits(instance, POOLS) == []
        assert instance.get_concurrency_config().run_queue_config.tag_concurrency_limits == limits
