"""Deliveries to a store that does not decide among writers: one at a time; whoever loses his turn tells the truth."""

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from vv_exports.connectors.lease import Holder, Holders
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.delivery import checkpoints
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import LogEntry, encode_entry, read_entry
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.vacuum import vacuum
from vv_exports.domain.destinations import log_entry_name, part_name
from vv_exports.errors import DeliveryConflictError, OutcomeUnknownError, TransientError
from vv_exports_tests.fakes.careless_folder import CarelessFolder

TEAM = "exports/team"
REPOSITORY = Path(__file__).resolve().parents[2]
SLOWNESS_SECONDS = 0.3

DELIVERS = """
import sys
from pathlib import Path
from vv_exports.delivery.deliver import deliver
from vv_exports_tests.delivery.conftest import NOW, Deployment
from vv_exports_tests.fakes.careless_folder import CarelessFolder

folder = Path(sys.argv[1])
deployment = Deployment(folder)
store = CarelessFolder(folder / "store", folder / "storage", slowness=float(sys.argv[2]))
snapshots = [deployment.store.current("idx", run_id) for run_id in sys.argv[3:]]
for snapshot in snapshots:
    sys.stdin.readline()
    deliver(deployment.request(snapshot, connector=store), deployment.store, lambda: NOW)
    print("delivered", flush=True)
"""


def store_of(deployment, **hooks) -> CarelessFolder:
    return CarelessFolder(deployment.folder / "store", deployment.folder / "storage", **hooks)


def taken_over(store: CarelessFolder) -> None:
    """What another process writes that takes the lease over."""
    now = datetime.now(UTC)
    holder = Holder(token="another", host="other-machine", process_id=77, since=now, alive_at=now)
    document = VersionedDocument(store.pipeline_storage, "writers", Holders, Holders)
    document.update(lambda _: Holders(by_destination={f"{store.address}/{TEAM}": holder}))


def let_go(store: CarelessFolder) -> None:
    document = VersionedDocument(store.pipeline_storage, "writers", Holders, Holders)
    document.update(lambda _: Holders())


@pytest.mark.slow
def test_processes_with_different_temporary_folders_lose_no_delivery(deployment):
    """Each had a lock of its own there, and both wrote entry 0 of the log and said that all was well."""
    names = [f"run_{number}" for number in range(4)]
    for number, name in enumerate(names):
        deployment.snapshot(name, segments=number + 1)
    processes = []
    for runs in (names[:2], names[2:]):
        temporary = deployment.folder / f"tmp-{runs[0]}"
        temporary.mkdir()
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", DELIVERS, str(deployment.folder), str(SLOWNESS_SECONDS), *runs]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    for _ in range(2):
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.stdout.readline() for process in processes]
        assert said == ["delivered\n"] * 2, [process.communicate()[1] for process in processes]
    for process in processes:
        process.communicate()
    team = Destination(store_of(deployment), TEAM)
    state = read_log(team)
    assert state.runs.keys() == set(names)
    assert state.next_sequence == len(names)
    assert {entry.provenance.commit for entry in entries_since(Destination(store_of(deployment), TEAM), 0)} == {
        "single_writer"
    }


def test_a_writer_whose_turn_was_taken_over_before_its_commit_commits_nothing(deployment, clock):
    store = store_of(deployment)
    first = deployment.request(deployment.snapshot(), connector=store)

    def lost(what, rows):
        del what, rows
        taken_over(store)

    with pytest.raises(TransientError, match=r"process 77 on other-machine, .* took over\. Nothing is committed"):
        deliver(first, deployment.store, clock, progress=lost)
    assert entries_since(Destination(store, TEAM), 0) == []
    let_go(store)
    assert deliver(first, deployment.store, clock).committed


def test_a_writer_that_was_stopped_while_it_committed_says_what_it_may_have_replaced(deployment, clock):
    """It looked, was stopped for longer than the time to live, went on, and wrote over what another had committed."""
    theirs = deployment.snapshot("run_theirs", segments=3)

    def stopped(key):
        if "/log/" in key:
            let_go(store)
            deliver(deployment.request(theirs, connector=store_of(deployment)), deployment.store, clock)

    store = store_of(deployment, before=stopped)
    ours = deployment.request(deployment.snapshot("run_ours"), connector=store)
    with pytest.raises(
        OutcomeUnknownError, match=r"00\.json is committed\. But this process was the only writer"
    ) as caught:
        deliver(ours, deployment.store, clock)
    assert "what it delivered is in no entry: automations deliver it again by themselves" in str(caught.value)
    assert read_log(Destination(store, TEAM)).runs.keys() == {"run_ours"}
    let_go(store)
    deliver(deployment.request(theirs, connector=store_of(deployment)), deployment.store, clock)
    assert read_log(Destination(store, TEAM)).runs.keys() == {"run_ours", "run_theirs"}


def test_a_writer_whose_entry_was_replaced_after_its_turn_was_over_does_not_say_that_it_delivered(deployment, clock):
    theirs = deliver(
        deployment.request(deployment.snapshot("run_theirs"), connector=store_of(deployment), subpath="elsewhere"),
        deployment.store,
        clock,
    )
    entry = read_entry(Destination(store_of(deployment), "elsewhere"), theirs.sequence)
    replaced = []

    def look(self, key):
        """The answer to the look after the write, and what happens right after it."""
        data = CarelessFolder.read(self, key)
        if written and not replaced and key.endswith(log_entry_name(0)) and "elsewhere" not in key:
            replaced.append(key)
            taken_over(self)
            self.write(key, encode_entry(entry))
        return data

    class ReplacedAfterTheLook(CarelessFolder):
        read = look

    written = []
    store = ReplacedAfterTheLook(
        deployment.folder / "store",
        deployment.folder / "storage",
        after=lambda key: written.append(key) if "log" in key else None,
    )
    with pytest.raises(DeliveryConflictError, match=r"replaced by another writer's entry: .*start again"):
        deliver(deployment.request(deployment.snapshot("run_ours"), connector=store), deployment.store, clock)
    assert replaced


def test_a_vacuum_whose_turn_was_taken_over_removes_nothing(deployment, clock):
    store = store_of(deployment)
    deliver(deployment.request(deployment.snapshot(), connector=store), deployment.store, clock)
    name = part_name(0, hashlib.sha256(b"PAR1").hexdigest(), ".parquet")
    stray = f"{TEAM}/segments/prompt_id=prm/prompt_run_id=run_9/{name}"
    store.write(stray, b"PAR1")

    class TakenOverWhileItLooks(CarelessFolder):
        def files(self, prefix, **options):
            taken_over(self)
            return CarelessFolder.files(self, prefix, **options)

    slow = TakenOverWhileItLooks(deployment.folder / "store", deployment.folder / "storage")
    with pytest.raises(TransientError, match="took over"):
        vacuum(Destination(slow, TEAM), clock)
    assert store.read(stray) == b"PAR1"
    assert read_log(Destination(store, TEAM)).next_sequence == 1


def test_a_checkpoint_is_of_what_lies_there_and_not_of_what_its_writer_remembers(deployment, clock, monkeypatch):
    """Entries can be replaced in such a store, by a writer whose turn was over."""
    monkeypatch.setattr(checkpoints, "EVERY", 3)
    store = store_of(deployment)
    team = Destination(store, TEAM)
    for name in ("run_0", "run_1"):
        deliver(deployment.request(deployment.snapshot(name), connector=store), deployment.store, clock)
    remembered = read_log(team)
    path = deployment.folder / "store" / TEAM / log_entry_name(0)
    entry = msgspec.json.decode(path.read_bytes(), type=LogEntry)
    path.write_bytes(encode_entry(msgspec.structs.replace(entry, files=[], prompt_runs=[])))
    request = deployment.request(deployment.snapshot("run_2"), connector=store)
    deliver(request, deployment.store, clock, state=remembered)
    found = read_log(team)
    assert found.checkpoint == 2
    assert found.runs.keys() == {"run_1", "run_2"}
