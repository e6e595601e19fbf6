"""What lies at a destination, or in the pipeline's storage, and is not the pipeline's: nothing removes it."""

import hashlib
import multiprocessing.util
import shutil
import tempfile
from random import Random

import pytest

from vv_exports.automations.deliver import deliver_isolated
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import entries_since, read_log
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import verify
from vv_exports.errors import ForbiddenError
from vv_exports_tests.archives import write_run
from vv_exports_tests.delivery.conftest import NOW, Deployment
from vv_exports_tests.delivery.test_killed import Killer
from vv_exports_tests.deployments import client_of, reconciled
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, delayed
from vv_exports_tests.foreign_files import changed, put_foreign_files

TEAM = "exports/team"


def _deliver(deployment: Deployment, *snapshots, **changes):
    return deliver(deployment.request(*snapshots, **changes), deployment.store, lambda: NOW)


def _top(deployment: Deployment):
    return deployment.folder / "deliveries" / TEAM


def _state(deployment: Deployment):
    return read_log(deployment.destination())


def _committed(deployment: Deployment) -> set[str]:
    return {file.path for file in _state(deployment).files}


def _stray_name(content: bytes, suffix: str = ".parquet") -> str:
    return f"part-00000-{hashlib.sha256(content).hexdigest()[:16]}{suffix}"


@pytest.fixture
def littered(deployment):
    """A collection of two runs with foreign files of every kind in every folder."""
    _deliver(deployment, deployment.snapshot("run_1"), deployment.snapshot("run_2", segments=2))
    return put_foreign_files(_top(deployment))


def test_foreign_files_make_no_run_due_and_no_entry(deployment, littered):
    before = deployment.files()
    assert deployment.runs_to_repair("run_1", "run_2") == set()
    again = _deliver(deployment, deployment.snapshot("run_1"), deployment.snapshot("run_2", segments=2))
    assert not again.committed
    assert deployment.files() == before
    assert changed(littered) == []


def test_foreign_files_outlive_changes_mending_dead_deliveries_and_vacuums(deployment, littered):
    _deliver(deployment, deployment.snapshot("run_1", segments=4))
    for path in (_top(deployment) / path for path in _committed(deployment)):
        path.unlink() if "run_1" in str(path) else path.write_bytes(path.read_bytes()[:-1])
    _deliver(deployment, deployment.snapshot("run_1", segments=4), deployment.snapshot("run_2", segments=2))
    dying = FaultyConnector(deployment.connector, {0: crashes}, only=frozenset({"create"}))
    with pytest.raises(Crash):
        _deliver(deployment, deployment.snapshot("run_1", segments=5), connector=dying)
    _deliver(deployment, deployment.snapshot("run_1", segments=6))
    done = vacuum(deployment.destination(), lambda: NOW)
    assert (done.superseded, done.strays) == ((), ())
    assert changed(littered) == []
    assert set(done.left_alone) == {str(path.relative_to(_top(deployment))) for path in littered}
    there = {path for path in deployment.files() if not path.startswith("_vv/")} - set(done.left_alone)
    assert there == _committed(deployment)


def test_foreign_files_outlive_a_delivery_that_loses_and_takes_its_files_back(deployment, littered):
    old, new = deployment.snapshot("run_1", segments=7), deployment.snapshot("run_1", segments=8)
    late = FaultyConnector(
        deployment.connector, {0: delayed(lambda: _deliver(deployment, new))}, only=frozenset({"create"})
    )
    with pytest.raises(Exception, match="start again with the current snapshot"):
        _deliver(deployment, old, connector=late)
    assert changed(littered) == []


def test_a_file_of_our_form_with_another_content_is_not_written_over(deployment):
    """Its name is the one that the run's file would get. That gets the next number."""
    snapshot = deployment.snapshot()
    (part,) = snapshot.tables["segments"]
    taken = _top(deployment) / f"segments/prompt_id=prm/prompt_run_id=run_1/part-00000-{part.sha256[:16]}.parquet"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"somebody's")
    _deliver(deployment, snapshot)
    assert taken.read_bytes() == b"somebody's"
    assert [path[-29:-25] for path in _committed(deployment)] == ["0001"]
    assert _deliver(deployment, snapshot).committed is False


def test_only_what_carries_the_hash_of_its_content_is_a_file_that_a_dead_delivery_left(deployment, caplog):
    _deliver(deployment, deployment.snapshot(segments=3))
    (committed,) = _committed(deployment)
    folder = (_top(deployment) / committed).parent
    ours = folder / _stray_name(b"left by a delivery that died")
    ours.write_bytes(b"left by a delivery that died")
    kept = {
        folder / name: content
        for name, content in {
            _stray_name(b"x", ".bak"): b"x",
            _stray_name(b"x", ".parquet.bak"): b"x",
            f"copy-{_stray_name(b'x')}": b"x",
            _stray_name(b"x")[:-1]: b"x",
            _stray_name(b"x").upper(): b"x",
            f"deeper/{_stray_name(b'x')}": b"x",
        }.items()
    }
    for path, content in kept.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert deployment.runs_to_repair("run_1") == {"run_1"}
    outcome = _deliver(deployment, deployment.snapshot(segments=3))
    assert (ours.exists(), changed(kept)) == (False, [])
    name = str(ours.relative_to(_top(deployment)))
    assert outcome.removed == (name,)
    assert name in caplog.text, "a removal is said"
    (run,) = entries_since(deployment.destination(), 0)[1].prompt_runs
    assert (run.reason, run.abandoned) == ("mended", [name]), "and recorded"


def test_a_link_in_the_place_of_a_superseded_file_stays_and_keeps_nothing_else(deployment):
    """It is no file that a delivery made, whatever its name is."""
    one, two = deployment.snapshot("run_1"), deployment.snapshot("run_2")
    _deliver(deployment, one, two)
    link, other = sorted(_top(deployment) / path for path in _committed(deployment))
    link.rename(deployment.folder / "elsewhere")
    link.symlink_to(deployment.folder / "elsewhere")
    _deliver(deployment, deployment.snapshot("run_1", segments=5), deployment.snapshot("run_2", segments=5))
    assert (link.is_symlink(), other.exists()) == (True, False)
    removed = vacuum(deployment.destination(), lambda: NOW)
    assert (removed.superseded, removed.left_alone) == ((), (str(link.relative_to(_top(deployment))),))


def test_a_file_of_our_form_that_may_not_be_read_is_not_proved_to_be_ours(deployment):
    def may_not(perform):
        raise ForbiddenError("conn: permission denied")

    _deliver(deployment, deployment.snapshot())
    (committed,) = _committed(deployment)
    theirs = (_top(deployment) / committed).parent / _stray_name(b"x")
    theirs.write_bytes(b"x")
    connector = FaultyConnector(deployment.connector, {0: may_not}, only=frozenset({"open"}))
    assert _deliver(deployment, deployment.snapshot(), connector=connector).committed is False
    assert theirs.exists()


@pytest.mark.parametrize("kind", ["a symbolic link", "a folder"])
def test_what_is_in_the_way_of_one_run_is_not_in_the_way_of_others(deployment, kind):
    _deliver(deployment, deployment.snapshot("run_1"))
    (path,) = (_top(deployment) / path for path in _committed(deployment))
    path.rename(deployment.folder / "elsewhere")
    path.mkdir() if kind == "a folder" else path.symlink_to(deployment.folder / "elsewhere")
    request = deployment.request(deployment.snapshot("run_1"), deployment.snapshot("run_2"))
    problems = deliver_isolated(request, lambda one: deliver(one, deployment.store, lambda: NOW)).problems
    assert (list(problems), set(_state(deployment).runs)) == (["run_1"], {"run_1", "run_2"})
    assert kind in str(problems["run_1"])


@pytest.mark.parametrize("folder", ["prompt_id=prm backup", "prompt_id=prm\udcff", "prompt_id=prm\n"])
def test_a_folder_that_no_delivery_makes_holds_no_files_of_ours(deployment, folder):
    """In the log they could not even be named: half of a surrogate pair stands for a byte that is no text."""
    _deliver(deployment, deployment.snapshot())
    (segments,) = _top(deployment).glob("segments")
    shutil.copytree(segments / "prompt_id=prm", segments / folder)
    (copy,) = (segments / folder).rglob("*.parquet")
    assert deployment.runs_to_repair("run_1") == set()
    assert vacuum(deployment.destination(), lambda: NOW).left_alone == (copy.relative_to(_top(deployment)).as_posix(),)
    assert copy.exists()
    assert "is not the pipeline's" in verify(deployment.destination()).problems[0]


def test_a_copy_of_a_prompts_folder_makes_no_run_due_for_ever(deployment):
    _deliver(deployment, deployment.snapshot())
    (segments,) = _top(deployment).glob("segments")
    shutil.copytree(segments / "prompt_id=prm", segments / "prompt_id=backup")
    assert deployment.runs_to_repair("run_1") == set()
    assert len(verify(deployment.destination()).problems) == 1


def test_an_entry_says_for_each_run_why_it_was_delivered(deployment):
    _deliver(deployment, deployment.snapshot("run_1"))
    _deliver(deployment, deployment.snapshot("run_1", segments=4), deployment.snapshot("run_2"))
    (_top(deployment) / next(path for path in _committed(deployment) if "run_2" in path)).unlink()
    _deliver(deployment, deployment.snapshot("run_2"))
    _deliver(deployment, deployment.snapshot("run_2"), format_name="csv")
    said = [
        {run.run_id: run.reason for run in entry.prompt_runs} for entry in entries_since(deployment.destination(), 0)
    ]
    assert said == [
        {"run_1": "new"},
        {"run_1": "changed", "run_2": "new"},
        {"run_2": "mended"},
        {"run_2": "reshaped"},
    ]


def test_what_an_older_version_gave_up_that_was_never_ours_is_left_alone(deployment):
    """It named every file beside its own as left over by a dead delivery."""
    _deliver(deployment, deployment.snapshot())
    (committed,) = _committed(deployment)
    note = f"{committed.rpartition('/')[0]}/README.txt"
    log = _top(deployment) / "_vv/log/00000000000000000000.json"
    log.write_text(log.read_text().replace('"abandoned": []', f'"abandoned": ["{note}"]'))
    assert note not in _state(deployment).abandoned
    (_top(deployment) / note).write_text("put there again")
    _deliver(deployment, deployment.snapshot(segments=4))
    assert vacuum(deployment.destination(), lambda: NOW).left_alone == (note,)
    assert (_top(deployment) / note).read_text() == "put there again"


def test_a_killed_process_and_the_one_after_it_leave_foreign_files(tmp_path, monkeypatch):
    multiprocessing.util.get_temp_dir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    deployment = Deployment(tmp_path)
    _deliver(deployment, deployment.snapshot("run_0"))
    put = put_foreign_files(_top(deployment))
    killer = Killer(deployment, Random(1))
    for number, seconds in enumerate((0.005, 0.02)):
        killer.kill([deployment.snapshot("run_0", segments=3000 + number)], seconds, None)
        _deliver(deployment, deployment.snapshot("run_0", segments=4 + number))
    assert changed(put) == []


@pytest.mark.slow
def test_foreign_files_everywhere_outlive_all_commands_and_are_named(tmp_path):
    """Collection, export on demand and storage; a run that changes, one that is partial and completed later, a file of
    ours that is deleted and one that is damaged, a reconciliation, a vacuum, a prune."""
    failures = [{"segment_id": "seg_9", "video_id": "vid_1", "failed_operations": ["transcription"]}]
    write_run(tmp_path / "archive", run_id="run_1", segments=3)
    write_run(tmp_path / "archive", run_id="run_2", failures=failures, status="completed_with_failures")
    write_run(tmp_path / "archive", run_id="run_3", segments=1)
    client = client_of(tmp_path)
    assert client.automations.run("idx", "team").delivered == ("run_1", "run_2", "run_3")
    export = client.exports.create_index_export("idx", None, "conn_export", "x")
    client.exports.create_index_export("idx")
    client.automations.pause("idx", "team")
    client.automations.resume("idx", "team")
    team, made = tmp_path / "deliveries/exports/team", tmp_path / "deliveries/x" / export.export_id
    put = put_foreign_files(team) | put_foreign_files(made) | put_foreign_files(tmp_path / "storage")
    entries = len(list((team / "_vv/log").glob("*.json")))

    assert client_of(tmp_path).automations.run("idx", "team").delivered == (), "by somebody who knows nothing yet"
    assert len(list((team / "_vv/log").glob("*.json"))) == entries, "nothing was written"
    assert client.automations.run("idx", "team").dagster_run_ids == ()
    write_run(tmp_path / "archive", run_id="run_1", segments=4)
    shutil.rmtree(tmp_path / "archive/indexes/idx/prompt_runs/run_2")
    write_run(tmp_path / "archive", run_id="run_2", segments=5)
    shutil.rmtree(tmp_path / "archive/indexes/idx/prompt_runs/run_3")
    assert client.automations.run("idx", "team").delivered == ("run_1", "run_2")
    committed = {file.path for file in client.pipeline.automations.get("idx", "team").collection().files}
    lost, cut = (team / next(path for path in committed if run in path) for run in ("run_1", "run_2"))
    lost.unlink()
    cut.write_bytes(b"cut")
    found = reconciled(client)
    assert (found.damaged, found.problems) == (("run_1", "run_2"), {})
    client.prompt_runs.list("idx")
    client.prompt_runs.sync("idx")
    assert client.prompt_runs.prune("idx").prompt_runs == ("run_3",)
    client.automations.pause("idx", "team")
    for number in range(4):
        client.pipeline.automations.get("idx", "held").record.pause(by="a", reason=str(number), now=NOW)
        client.pipeline.automations.get("idx", "held").record.resume()
    for folder, top in (("exports/team", team), (f"x/{export.export_id}", made)):
        foreign = {str(path.relative_to(top)) for path in put if path.is_relative_to(top)}
        assert set(client.vacuum("conn_export", folder).left_alone) == foreign
        said = verify(Destination(client.pipeline.connectors["conn_export"], folder))
        for path in foreign:
            assert path in said.foreign
            readable = path.startswith(("segments/", "videos/", "failures/"))
            assert any(problem.startswith(f"{top / path} ") for problem in said.problems) == readable, path
    assert changed(put) == []
