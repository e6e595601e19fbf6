"""What is remembered of an automation outlives the process and Dagster's database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vv_exports.automations.records import AutomationRecord, Beginning
from vv_exports.config import AutomationConfig
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.versioned_document import packed
from vv_exports.domain.prompt_runs import PromptRun, RunStatus
from vv_exports.errors import CredentialsError, DeliveredDataError, SourceDataError, TransientError
from vv_exports_tests.archives import write_run
from vv_exports_tests.deployments import client_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def storage(tmp_path):
    return LocalConnector("storage", tmp_path, make_root=True)


def record(storage, name="team"):
    return AutomationRecord(storage, "idx/ä", name)


def beginning(start, *runs, now=NOW):
    there = [PromptRun(run_id, "idx", "p", "P", RunStatus.COMPLETED, NOW, {}) for run_id in runs]
    return Beginning.of(AutomationConfig(destination_connector_id="conn", start=start), there, now)


def test_an_automation_begins_once_with_what_was_there_then(storage):
    assert record(storage).beginning() is None
    begun = record(storage).begin(beginning("now", "a", "b"))
    assert begun.history == {"a", "b"}
    assert record(storage).begin(beginning("beginning", "a", "b", "c", now=NOW + timedelta(days=1))) == begun
    assert record(storage, "other").begin(beginning("beginning", "a")).history == frozenset()


@pytest.mark.parametrize("content", [b"", b"junk", b"\x28\xb5\x2f\xfd", packed([1, 2])])
def test_a_damaged_beginning_is_named_and_the_way_out_works(storage, content):
    record(storage).begin(beginning("now", "a"))
    (path,) = Path(storage.uri("")).rglob("begin.json.zst")
    path.write_bytes(content)
    with pytest.raises(DeliveredDataError, match=r"begin\.json\.zst does not say where.*or remove it"):
        record(storage).beginning()
    path.unlink()
    assert record(storage).begin(beginning("now", "a")).history == {"a"}


def test_a_pause_keeps_its_first_reason_until_it_is_lifted(storage):
    record(storage).pause("ann", "share moves", NOW)
    record(storage).pause("bob", "another", NOW)
    assert (record(storage).state().pause.by, record(storage).state().pause.reason) == ("ann", "share moves")
    assert record(storage).resume()
    assert record(storage).state().pause is None
    assert not record(storage).resume()


def test_permanent_failures_of_one_kind_in_a_row_pause_it(storage):
    here = record(storage)
    for error in (
        CredentialsError("no key"),
        CredentialsError("no key"),
        TransientError("busy"),
        CredentialsError("x"),
    ):
        here.failed(error, 3, NOW)
    here.failed(CredentialsError("no key"), 3, NOW)
    assert here.state().pause is None, "another kind came between"
    here.failed(CredentialsError("no key"), 3, NOW)
    pause = record(storage).state().pause
    assert (pause.by, "CredentialsError: no key" in pause.reason) == ("itself", True)
    assert here.resume()
    assert here.state().failing is None, "after a resume it has as many attempts as at first"


@pytest.mark.parametrize(("error", "limit"), [(TransientError("busy"), 1), (CredentialsError("no key"), None)])
def test_what_passes_never_pauses_and_null_never_does(storage, error, limit):
    for _ in range(20):
        record(storage).failed(error, limit, NOW)
    assert record(storage).state().pause is None
    assert record(storage).state().failing.attempts == 20


def test_a_delivery_forgets_the_failures_and_notes_the_runs_that_were_left_out(storage):
    here = record(storage)
    here.failed(CredentialsError("no key"), 3, NOW)
    here.succeeded(["a"], {"b": SourceDataError("broken")}, NOW)
    assert here.state().failing is None
    assert here.state().problems["b"].message == "broken"
    here.succeeded(["b"], {}, NOW)
    assert here.state().problems == {}


def test_a_damaged_beginning_holds_up_no_other_automation_of_the_index(tmp_path, caplog):
    write_run(tmp_path / "archive", run_id="history")
    pipeline = client_of(tmp_path).pipeline
    assert pipeline.automations.begin("idx", pipeline.indexes.listing("idx"), NOW) == ["team", "held"]
    (tmp_path / "storage/automations/idx/team/begin.json.zst").write_bytes(b"junk")
    write_run(tmp_path / "archive", run_id="new")
    pipeline = client_of(tmp_path).pipeline
    listing = pipeline.indexes.listing("idx")
    assert pipeline.automations.begin("idx", listing, NOW) == []
    assert pipeline.automations.to_read("idx", listing, NOW).due == ("history", "new")
    assert "automation team of index idx does not begin: " in caplog.text
    with pytest.raises(DeliveredDataError, match="does not say where"):
        pipeline.automations.get("idx", "team").standings(pipeline.snapshots.kept("idx"))
