"""What is asked again and again of a log, without its files, is what the whole replay says."""

import pytest

from vv_exports.delivery import checkpoints
from vv_exports.delivery.log import read_holdings, read_log
from vv_exports.errors import DeliveredDataError
from vv_exports_tests.archives import SCHEMA, write_run
from vv_exports_tests.deployments import client_of, reconciled


@pytest.fixture
def client(tmp_path):
    """A collection of three entries: of two prompts, with a changed run and a new column in it."""
    client = client_of(tmp_path)
    for number in range(4):
        write_run(tmp_path / "archive", run_id=f"run_{number}", prompt_id=f"prm_{number % 2}")
    client.pipeline.automations.begin("idx", client.pipeline.indexes.listing("idx"), client.pipeline.clock())
    assert reconciled(client).delivered
    write_run(tmp_path / "archive", run_id="run_1", prompt_id="prm_1", segments=5)
    assert reconciled(client).changed == ("run_1",)
    wider = SCHEMA | {"properties": SCHEMA["properties"] | {"mood": {"type": "string"}}}
    write_run(tmp_path / "archive", run_id="run_4", prompt_id="prm_0", schema=wider)
    return client


def told(replay):
    return {
        run_id: (held.entry, held.prompt_id, held.folders, held.earlier, replay.has_columns_of(held))
        for run_id, held in replay.runs.items()
    }


def same(destination, held):
    state = read_log(destination)
    assert told(held) == told(state)
    assert (held.next_sequence, held.last, held.shapes, held.began) == (
        *(state.next_sequence, state.last, state.shapes, state.began),
    )
    for run_id, one in state.runs.items():
        assert held.runs[run_id].holds(one.run.data_version, one.run.status)
        assert not held.runs[run_id].holds("another", one.run.status)
        assert not held.runs[run_id].holds(one.run.data_version, "another")


@pytest.mark.parametrize("at", [None, 0, 1], ids=["entries alone", "the first entry", "the last entry"])
def test_holdings_say_what_the_whole_replay_says_from_whichever_checkpoint(client, at):
    destination = client.pipeline.automations.get("idx", "team").destination
    if at is not None:
        state = checkpoints.LogState()
        for sequence in range(at + 1):
            state.apply(checkpoints.read_entry(destination, sequence))
        checkpoints.write_checkpoint(destination, state)
        assert checkpoints.newest_holdings(destination).next_sequence == at + 1
    same(destination, read_holdings(destination))


def test_an_automation_that_kept_its_holdings_reads_on_and_owes_the_same(client):
    automation, other = client.pipeline.automations.get("idx", "team"), client_of(client.pipeline.config.folder)
    automation._state = None
    before = automation.holdings()
    assert automation.holdings() is before, "nothing is new"
    assert reconciled(other).delivered
    held = automation.holdings()
    assert held.next_sequence > before.next_sequence
    assert "run_4" not in before.runs, "who still uses it sees what it was"
    same(automation.destination, held)
    known = client.pipeline.snapshots.kept("idx")
    assert automation.standings(known) == automation.standings(known, state=read_log(automation.destination))


def test_a_log_with_an_entry_missing_is_refused_as_the_whole_replay_refuses_it(client, tmp_path):
    destination = client.pipeline.automations.get("idx", "team").destination
    (tmp_path / "deliveries/exports/team/_vv/log/00000000000000000000.json").unlink()
    with pytest.raises(DeliveredDataError) as refused:
        read_log(destination)
    with pytest.raises(DeliveredDataError) as held:
        read_holdings(destination)
    assert str(held.value) == str(refused.value)


def test_a_damaged_checkpoint_is_left_aside(client, tmp_path):
    destination = client.pipeline.automations.get("idx", "team").destination
    checkpoints.write_checkpoint(destination, read_log(destination))
    (path,) = (tmp_path / "deliveries/exports/team/_vv/checkpoints").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert checkpoints.newest_holdings(destination) is None
    same(destination, read_holdings(destination))
