"""What the command line says of an automation whose prompt's schema has changed."""

import copy

import pytest

from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.cli.running import run, tree
from vv_exports_tests.deployments import CONFIG, client_of

OLDER = tuple(f"run_{number}" for number in range(3))


def add(folder, run_id, day, metadata, **types):
    write_run(
        folder / "archive",
        run_id=run_id,
        schema={"type": "object", "properties": {name: {"type": kind} for name, kind in types.items()}},
        executed_at=f"2026-10-{day:02}T00:00:00Z",
        segments=[segment(0, metadata=metadata)],
    )


@pytest.fixture
def changed(tmp_path, request):
    """A collection of three runs. Of a fourth and a fifth the source has been read: one has a property more, the other
    an integer where the files have text."""
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"] = {
        "team": {**CONFIG["indexes"]["idx"]["automations"]["team"], "start": "beginning", **request.param}
    }
    for day, run_id in enumerate(OLDER, start=1):
        add(tmp_path, run_id, day, {"title": run_id}, title="string")
    client = client_of(tmp_path, config)
    client.automations.run("idx", "team")
    add(tmp_path, "run_more", 8, {"title": "t", "mood": "calm"}, title="string", mood="string")
    add(tmp_path, "run_odd", 9, {"title": 5}, title="integer")
    client.prompt_runs.sync("idx")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "odd"),
    [
        ({}, "segments.v2/prm: prompt run 'run_odd' has types that segments cannot hold"),
        ({"on_schema_conflict": "hold"}, "prompt run run_odd waits, since its prompt has other types"),
    ],
    indirect=["changed"],
)
def test_a_dry_run_says_what_follows_for_other_runs_and_why_columns_change(changed, odd):
    before = tree(changed)
    plan = run(changed, "backfill", "idx", "team", "--dry-run", "--json").document
    assert plan["reshape"]["prompt_runs"] == list(OLDER)
    files = [path for path in tree(changed / "deliveries") if path.endswith(".parquet")]
    assert plan["reshape"]["files"] == len(files) == 3
    said = run(changed, "backfill", "idx", "team", "--dry-run")
    assert (
        f"after that it would deliver 3 prompt runs again (3 files, {plan['reshape']['bytes']:,} bytes), whose files "
        "have not the columns that this brings\n"
    ) in said.out
    assert len(plan["changes"]) == 2
    for change in plan["changes"]:
        assert f"columns: {change}\n" in said.out
    assert "columns: segments/prm: prompt run 'run_more' needs more: /mood is new" in said.out
    assert f"columns: {odd}" in said.out
    assert tree(changed) == before


@pytest.mark.parametrize("changed", [{}], indirect=True)
def test_a_dry_run_that_changes_no_columns_says_nothing_of_them(changed):
    said = run(changed, "backfill", "idx", "team", "--run", "run_0", "--dry-run").out
    assert said.startswith("would deliver 0 prompt runs (")
    assert "columns" not in said
    assert "again" not in said


@pytest.mark.parametrize("changed", [{"on_schema_conflict": "hold"}], indirect=True)
def test_what_waits_and_what_is_due_again_is_shown_with_the_reason(changed):
    answer = run(changed, "automations", "run", "idx", "team", "--run", "run_more", "--run", "run_odd")
    assert answer.code == 1
    assert "prompt run run_odd waits, since its prompt has other types" in answer.err
    shown = run(changed, "automations", "show", "idx", "team")
    assert "held_why:\n  conflict: 1\n" in shown.out
    assert "held_runs: run_odd\n" in shown.out


@pytest.mark.parametrize("changed", [{"retain_superseded": "24h"}], indirect=True)
def test_files_that_are_kept_for_readers_are_named_and_no_problem(changed):
    run(changed, "automations", "run", "idx", "team", "--run", "run_more")
    told = run(changed, "verify", "conn_export")
    assert told.code == 0
    assert "note: 3 superseded files kept for readers that began before" in told.out
    left = run(changed, "vacuum", "conn_export", "--subpath", "exports/team")
    assert "removed 0 superseded and 0 stray files" in left.out
    assert left.out.count("kept for readers that began before: segments/prompt_id=prm/") == 3
