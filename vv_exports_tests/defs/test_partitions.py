"""Partitions as names of prompt runs, and what is told of them from one look."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from vv_exports.defs.partitions import Partitions, partitions_name
from vv_exports.domain.prompt_runs import PromptRun, RunStatus

ODD = ["plain", "run_1", "a b", "a%20b", "a%2520b", ".x", "x.", "a...b", "a.b", "é", "%2Ex", "50%", "~", ""]


def run(run_id, status=RunStatus.COMPLETED):
    return PromptRun(run_id, "idx", "prm", "Prompt", status, datetime(2026, 1, 1, tzinfo=UTC), {})


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        assert Partitions(instance, "idx").add(map(run, ODD)) == ODD
        yield instance


def test_runs_that_have_a_partition_get_no_other_and_all_are_told(instance):
    there = Partitions(instance, "idx")
    assert there.add(map(run, ODD)) == []
    assert set(there.run_ids()) == set(ODD)
    assert list(there.run_ids(set(ODD))) == []


@pytest.mark.parametrize("gone", ODD)
def test_of_runs_that_are_gone_each_is_told_whatever_the_others_are_called(instance, gone):
    assert list(Partitions(instance, "idx").run_ids(set(ODD) - {gone})) == [gone]


def test_what_somebody_made_up_is_no_run_and_stands_in_no_runs_way(instance):
    instance.add_dynamic_partitions(partitions_name("idx"), [".made up", "b c", "%zz"])
    there = Partitions(instance, "idx")
    assert set(there.run_ids()) == set(ODD)
    assert there.add([run(".made up"), run("b c"), run("late", RunStatus.PROCESSING)]) == [".made up", "b c"]
