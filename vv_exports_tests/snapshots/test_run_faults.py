"""Whose fault an exception is that comes out of reading a run."""

import errno

import pyarrow as pa
import pytest

from vv_exports.errors import (
    PartlyFailedError,
    QuotaError,
    RequestError,
    RunFailedError,
    SourceDataError,
    TransientError,
)
from vv_exports.snapshots import run_faults, store
from vv_exports.snapshots.run_faults import faults_of_run
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import client_of


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError("maximum recursion depth"),
        pa.ArrowCapacityError("cannot contain"),
        ValueError("x"),
    ],
)
def test_what_is_no_error_of_ours_is_the_runs_and_names_it(error):
    with (
        pytest.raises(
            SourceDataError, match=rf"'run\\n1' of index 'idx' could not be read: {type(error).__name__}"
        ) as caught,
        faults_of_run("idx", "run\n1"),
    ):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [RequestError("a"), TransientError("b"), QuotaError("c"), OSError(errno.ENOSPC, "full")]
)
def test_what_is_everyones_stays_everyones(error):
    with pytest.raises(type(error)) as caught, faults_of_run("idx", "run"):
        raise error
    assert caught.value is error


def test_an_error_that_is_kept_holds_nothing_of_what_was_read():
    def read():
        held = bytearray(1000)
        raise ValueError(len(held))

    with pytest.raises(SourceDataError) as caught, faults_of_run("idx", "run"):
        read()
    frame = caught.value.__cause__.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    assert frame.tb_frame.f_locals == {}


@pytest.mark.parametrize("name", ["read_run", "StoredStage"])
@pytest.mark.parametrize(
    "error", [MemoryError(), pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")]
)
def test_memory_that_one_run_does_not_find_keeps_no_other_from_being_delivered(tmp_path, monkeypatch, name, error):
    write_run(tmp_path / "archive", run_id="fine")
    write_run(tmp_path / "archive", run_id="wide", segments=[segment(0, metadata={"title": "wide"})])
    whole = getattr(store, name)

    def fails_for_the_wide_one(*arguments, **more):
        if any("wide" in str(getattr(one, "run_id", one)) for one in arguments[:2]):
            raise error
        return whole(*arguments, **more)

    monkeypatch.setattr(store, name, fails_for_the_wide_one)
    client = client_of(tmp_path)
    with pytest.raises(
        RunFailedError, match=rf"1 of 2 .*(?s:.*)'wide' of index 'idx' could not be read: {type(error).__name__}"
    ):
        client.automations.run("idx", "team")
    assert set(client.pipeline.automations.get("idx", "team").collection().runs) == {"fine"}


@pytest.mark.parametrize("where", ["results", "prompt", "record"])
def test_a_run_that_nests_as_deep_as_can_be_read_is_delivered_or_named(tmp_path, where):
    """Each step has its own depth: decoding, typing, writing, sorting."""
    write_run(tmp_path / "archive", run_id="fine")
    for levels in (90, 300, 700, 900, 990):
        value = "[" * levels + "]" * levels
        folder = write_run(tmp_path / "archive", run_id=f"deep_{levels}", segments=[segment(1), segment(0)])
        path = (
            folder / {"results": "segment_results.jsonl", "prompt": "prompt.json", "record": "prompt_run.json"}[where]
        )
        field = {"results": '"title":', "prompt": '"json_schema":', "record": '"run_id":'}[where]
        path.write_text(path.read_text().replace(field, f'"deep": {value}, {field}'))
    client = client_of(tmp_path)
    named = ""
    try:
        client.automations.run("idx", "team")
    except (PartlyFailedError, RunFailedError) as error:
        named = str(error)
    delivered = set(client.pipeline.automations.get("idx", "team").collection().runs)
    assert "fine" in delivered
    for levels in (90, 300, 700, 900, 990):
        assert (f"deep_{levels}" in delivered) != (f"- deep_{levels}: " in named)


def test_the_errors_of_one_run_are_those_that_leave_it_out():
    assert SourceDataError in run_faults.OF_ONE_RUN
    assert not set(run_faults.OF_ONE_RUN) & {RequestError, TransientError, QuotaError}
