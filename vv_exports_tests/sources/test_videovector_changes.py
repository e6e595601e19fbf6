"""What changes at VideoVector: before, while and after a run is read; and a reading that is cut off."""

import re
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from unittest.mock import patch

import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.errors import NotFoundError, SelectionError, SourceChangedError, SourceDataError, TransientError
from vv_exports.snapshots.staging import StoredStage
from vv_exports.sources import videovector_answers, videovector_items
from vv_exports.sources.videovector_reading import Reading
from vv_exports_tests.fakes.faults import Fault, FaultKind
from vv_exports_tests.fakes.platform import SCHEMA, make_platform
from vv_exports_tests.sources.accounts import INDEX, NOW, Account, account, fault, held

pytestmark = pytest.mark.slow

RUN = "run_000"
K = FaultKind


@pytest.fixture
def platform():
    return make_platform(media=20, runs=2, segments=(1, 130), failed_share=0.1)


@pytest.fixture
def here(platform, tmp_path):
    with account(platform, tmp_path / "storage") as one:
        yield one


def test_a_segment_that_is_retried_after_the_end_makes_a_new_snapshot(here: Account, platform):
    first = here.ensure(RUN)
    platform.retry_segment(RUN)
    second = here.ensure(RUN)
    assert (second.status, second.revision) == (RunStatus.COMPLETED_WITH_FAILURES, 2)
    assert second.data_version != first.data_version
    assert second.rows("segments") == first.rows("segments") + 1
    assert second.rows("failures") == first.rows("failures") - 1
    assert here.kept(second) == held(platform, RUN)


def test_markers_alone_make_none_and_no_result_is_read_again(here: Account, platform):
    first = here.ensure(RUN)
    platform.mark(RUN)
    here.server.clear()
    assert here.ensure(RUN) == first
    assert here.server.count("results|video-result") == 0
    assert here.take(RUN) == first, "also where the run is read again for another reason"


def test_a_run_that_did_not_change_is_not_read_again(here: Account):
    first = here.ensure(RUN)
    here.server.clear()
    assert here.ensure(RUN) == first
    assert here.server.count() == 2, "the prompt runs and the media of the index, one page each"


def test_the_media_are_listed_once_for_all_runs_of_a_discovery(here: Account):
    runs = here.source.prompt_runs(INDEX)
    for run in runs:
        here.source.change_hint(run)
    assert here.server.count("/indexes/idx_1/videos") == 1
    here.source.prompt_runs(INDEX)
    here.source.change_hint(runs[0])
    assert here.server.count("/indexes/idx_1/videos") == 2, "and again with the next"


def test_a_result_that_changes_without_a_counter_is_found_by_the_media_lists_times(here: Account, platform):
    first = here.ensure(RUN)
    platform.change_result(RUN)
    second = here.ensure(RUN)
    assert second.revision == 2
    assert second.data_version != first.data_version


@pytest.mark.parametrize("change", ["retry_segment", "change_result"])
def test_a_run_that_changes_while_it_is_read_is_read_again(here: Account, platform, change):
    here.server.faults.append(fault(K.CHANGES_WHILE_READ, skip=6, change=lambda: getattr(platform, change)(RUN)))
    snapshot = here.take(RUN)
    assert here.kept(snapshot) == held(platform, RUN), "nothing of before is left"
    assert snapshot.revision == 1
    assert snapshot.run["completed_segments"] == platform.runs[RUN].record["completed_segments"]
    assert here.staged() == []
    here.server.clear()
    assert here.ensure(RUN) == snapshot
    assert here.server.count("/results") == 0, "what was kept is known to be what there is"


def test_a_run_that_never_stays_still_is_left_for_later(here: Account, platform):
    here.server.faults.append(
        fault(K.CHANGES_WHILE_READ, times=None, skip=0, change=lambda: platform.change_result(RUN))
    )
    with pytest.raises(SourceChangedError, match="changed during each of 3 readings"):
        here.take(RUN)
    assert here.store.current(INDEX, RUN) is None
    here.server.clear()
    assert here.kept(here.take(RUN)) == held(platform, RUN)


def test_a_run_that_is_begun_again_while_it_is_read_is_not_kept(here: Account, platform):
    def begin_again():
        platform.runs[RUN].record["status"] = "processing"

    here.server.faults.append(fault(K.CHANGES_WHILE_READ, change=begin_again))
    with pytest.raises(SelectionError, match="is processing"):
        here.take(RUN)
    assert here.store.current(INDEX, RUN) is None


def test_a_run_is_asked_for_again_when_all_of_it_was_fetched_and_before_it_is_wanted(here: Account):
    run = here.source.prompt_run(INDEX, RUN)
    here.source.change_hint(run)
    stage = StoredStage(LocalConnector("storage", here.folder, make_root=True), "snapshots/idx_1/run", "0" * 16)
    here.server.clear()
    with here.source.results(run, stage) as results:
        while here.server.count(f"/prompt-runs/{RUN}$") == 0 or here.server.count("idx_1/videos") == 0:
            time.sleep(0.001)
        assert len(list(results.segments())) > 0
    assert results.run_afterwards() == run
    here.source.change_hint(run)
    asked = {str(request): request for request in here.server.requests}
    assert len(asked) == len(here.server.requests), "and nothing is asked twice"
    again = [one for name, one in asked.items() if name.endswith(RUN) or "idx_1/videos" in name]
    assert len(again) == 2
    assert min(one.began for one in again) > max(one.ended for one in asked.values() if one not in again)


def test_a_run_that_is_read_before_its_fetching_has_ended_is_asked_for_all_the_same(here: Account):
    run = here.source.prompt_run(INDEX, RUN)
    stage = StoredStage(LocalConnector("storage", here.folder, make_root=True), "snapshots/idx_1/run", "0" * 16)
    fetch = Reading.fetch

    async def fetch_and_not_end(self: Reading) -> None:
        self.is_fetched.set = lambda: None  # whoever reads was faster
        await fetch(self)

    with patch.object(Reading, "fetch", fetch_and_not_end), here.source.results(run, stage) as results:
        assert len(list(results.segments())) > 0
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(results.run_afterwards).result(timeout=10) == run
    assert not here.source.api._tasks, "nothing waits for what never comes"


def test_a_run_that_cannot_be_asked_for_again_is_not_kept(here: Account):
    run = here.source.prompt_run(INDEX, RUN)
    here.server.faults.append(Fault(K.HTML_WITH_200, f"/prompt-runs/{RUN}$", times=None))
    with pytest.raises(SourceDataError, match="no JSON"):
        here.store.take(here.source, run, NOW)
    assert here.store.current(INDEX, RUN) is None


def test_media_that_were_deleted_are_missed(here: Account, platform):
    platform.delete_media(INDEX, "vid_0003")
    with pytest.raises(SourceDataError, match=r"states 20 media .* are 19: a difference of 1\."):
        here.take(RUN)
    assert here.store.current(INDEX, RUN) is None


def test_a_run_of_chosen_media_names_them_itself(here: Account, platform):
    platform.runs[RUN].record["run_context"] |= {"type": "videos", "video_ids": platform.runs[RUN].media}
    platform.delete_media(INDEX, "vid_0003")
    assert here.kept(here.take(RUN)) == held(platform, RUN)


def test_counters_that_are_not_filled_in_are_no_contradiction(here: Account, platform):
    platform.runs[RUN].record |= dict.fromkeys(
        ("total_videos", "total_audios", "total_images", "total_segments", "completed_segments"), 0
    )
    del platform.runs[RUN].record["video_level_completed_items"]
    assert here.kept(here.take(RUN)) == held(platform, RUN)


def test_more_video_results_than_are_stated_are_a_difference(here: Account, platform):
    platform.runs[RUN].record["video_level_completed_items"] -= 2
    with pytest.raises(SourceDataError, match=r"states video_level_completed_items .* = 18, but 20 video results"):
        here.take(RUN)


def test_fewer_segments_than_the_run_states_are_a_difference_where_the_media_list_says_nothing(here: Account, platform):
    here.server.faults.append(Fault(K.NO_PROCESSING_STATUS, "indexes/idx_1/videos", times=None))
    platform.runs[RUN].record["completed_segments"] += 3
    with pytest.raises(SourceDataError, match="a difference of 3"):
        here.take(RUN)


def test_fewer_failed_segments_than_are_stated_are_a_difference(here: Account, platform):
    failed = platform.runs[RUN].failed
    platform.runs[RUN].record["total_segments"] += 1
    here.server.faults.append(Fault(K.NO_PROCESSING_STATUS, "indexes/idx_1/videos", times=None))
    with pytest.raises(SourceDataError, match=rf"{sum(map(len, failed.values()))} are listed, but the run states"):
        here.take(RUN)


def test_a_deleted_prompt_leaves_its_schema_in_the_results(here: Account, platform):
    run = platform.runs[RUN]
    first = next(rows for _, rows in sorted(run.segments.items()) if rows)[0]
    first["schema_used"] = '{"type": "object", "properties": {"title": {"type": "string"}}}'
    del platform.prompts["prm_0"]
    snapshot = here.take(RUN)
    assert snapshot.json_schema["properties"] == {"title": {"type": "string"}}
    assert snapshot.video_level_schema == {}
    kept = here.kept(snapshot)
    assert kept == held(platform, RUN)


def test_a_deleted_prompt_without_a_trace_leaves_json(here: Account, platform):
    del platform.prompts["prm_1"]
    assert here.kept(here.take("run_001")) == held(platform, "run_001")


def test_a_prompt_that_got_a_video_level_after_the_run_changes_nothing(here: Account, platform):
    platform.prompts["prm_1"]["video_level"] = {"instructions_text": "", "json_schema": SCHEMA}
    snapshot = here.take("run_001")
    assert "videos" not in snapshot.tables
    assert here.server.count("video-result") == 0


def test_statuses_that_are_not_known_are_not_finished(here: Account, platform):
    platform.runs["run_001"].record["status"] = "queued"
    platform.runs[RUN].record["status"] = "Completed"
    runs = {run.run_id: run for run in here.source.prompt_runs(INDEX)}
    assert (runs["run_001"].status, runs["run_001"].deliverable) == (RunStatus.UNKNOWN, False)
    assert runs[RUN].deliverable
    with pytest.raises(SelectionError, match="is unknown"):
        here.take("run_001")


def test_an_unfinished_run_that_is_not_in_order_yet_does_not_hold_up_the_others(here: Account, platform):
    platform.runs["run_001"].record |= {"status": "pending", "executed_at": None}
    assert [run.run_id for run in here.source.prompt_runs(INDEX)] == [RUN]
    platform.runs["run_001"].record["status"] = "completed"
    with pytest.raises(SourceDataError, match="prompt run run_001: expected executed_at"):
        here.source.prompt_runs(INDEX)


def test_a_finished_run_whose_record_is_broken_is_named_beside_the_others(here: Account, platform):
    platform.runs["run_001"].record["executed_at"] = "some day"
    listing = here.source.listing(INDEX)
    assert [run.run_id for run in listing.runs] == [RUN]
    assert list(listing.problems) == ["run_001"]
    assert "prompt run run_001: expected executed_at to be an ISO 8601 time" in str(listing.problems["run_001"])
    del platform.runs["run_001"].record["run_id"]
    with pytest.raises(SourceDataError, match=f"prompt runs of index {INDEX}: expected run_id"):
        here.source.listing(INDEX)


def test_a_run_of_another_index_is_not_one_of_this(here: Account, platform):
    platform.runs[RUN].record["run_context"] = {"type": "index", "index_id": "another"}
    with pytest.raises(NotFoundError, match="it is one of index 'another'"):
        here.source.prompt_run(INDEX, RUN)
    with pytest.raises(NotFoundError, match=r"runs list idx_1"):
        here.source.prompt_run(INDEX, "run_999")
    with pytest.raises(NotFoundError, match=r"There is no index 'nope'. The account has: idx_1"):
        here.source.index("nope")


def test_an_index_that_the_platform_does_not_know_is_answered_with_those_that_it_does(here: Account):
    with pytest.raises(NotFoundError) as raised:
        here.source.listing("idx_l")
    said = str(raised.value)
    assert said.startswith("There is no index 'idx_l'. Did you mean 'idx_1'? The account has: idx_1. Correct it under ")
    assert said.lower().count("not found") == 1, "the platform's words stand once"
    here.server.scopes.discard("search")
    with pytest.raises(NotFoundError, match=r"^There is no index 'idx_l'. Which ones the account has cannot be told: "):
        here.source.listing("idx_l")


def test_a_server_that_leaves_the_key_in_doubt_is_not_told_as_ok(here: Account):
    here.server.faults.append(Fault(K.NOT_FOUND, "auth/validate", times=None))
    first = next(iter(here.source.check([INDEX])))
    assert (first.step, first.outcome) == ("credentials", "warning")
    assert "does not say whether it knows the key" in first.detail


def test_awkward_ids_ask_for_what_they_name(tmp_path):
    platform = make_platform(media=4, runs=2, awkward_ids=True, failed_share=0.1)
    with account(platform, tmp_path) as here:
        (index,) = here.source.indexes()
        for run in here.source.prompt_runs(index.index_id):
            assert here.kept(here.store.take(here.source, run, NOW)) == held(platform, run.run_id)
        with pytest.raises(NotFoundError):
            here.source.prompt_run(index.index_id, "..")
        assert {request.status for request in here.server.requests} <= {200, 404}


def test_unknown_fields_are_kept_unless_they_hold_a_link(here: Account, platform):
    here.server.faults.append(Fault(K.UNKNOWN_FIELDS, "/results", times=None))
    snapshot = here.take(RUN)
    for row, text in zip(held(platform, RUN)["segments"], here.kept(snapshot)["segments"], strict=True):
        assert text.replace(b'"harmless_extra":{"a":[1,null]},', b"") == row
        assert b"harmless_extra" in text
    assert here.take(RUN).data_version == snapshot.data_version, "another token in every answer, the same content"


# A reading that is cut off


@pytest.fixture
def long_ones(tmp_path):
    """An account whose media have several pages of results each."""
    with account(make_platform(media=8, runs=1, segments=(150, 250)), tmp_path / "storage", max_concurrency=4) as one:
        yield one


def results_asked_for(here: Account) -> list[str]:
    """The requests for results, failed segments and prompts, in the order of their text."""
    return sorted(str(one) for one in here.server.requests if re.search("result|failed-segments|prompts/", one.path))


def test_a_reading_that_was_cut_off_asks_for_nothing_again_that_was_answered(long_ones: Account):
    here = long_ones
    here.server.faults.append(fault(K.SERVICE_UNAVAILABLE, on="vid_0004.*cursor=", skip=0, times=None))
    with pytest.raises(TransientError):
        here.take(RUN)
    answered = set(results_asked_for(here)) - {str(one) for one in here.server.requests if one.status == 503}
    assert any("vid_0004" in request for request in answered), "a page of an item that is not complete"
    here.server.clear()
    again = Account(here.server, here.folder)  # as another process would
    assert here.kept(again.take(RUN)) == held(here.server.platform, RUN)
    again.source.close()
    asked = results_asked_for(here)
    assert not answered & set(asked)
    assert len(asked) == len(set(asked))
    here.take(RUN)
    assert set(results_asked_for(here)) == answered | set(asked), "together they are all that there is to ask for"
    assert here.staged() == []


def test_the_media_are_listed_once_for_runs_that_are_read_at_the_same_time(here: Account):
    runs = here.source.prompt_runs(INDEX)
    here.server.delay = 0.01
    here.server.clear()
    with ThreadPoolExecutor(2) as threads:
        assert len(set(threads.map(here.source.change_hint, runs))) == 2
    assert here.server.count("indexes/idx_1/videos") == 1


def test_an_item_whose_staged_cursor_is_refused_is_read_from_its_beginning(long_ones: Account):
    here = long_ones
    here.server.faults.append(fault(K.SERVICE_UNAVAILABLE, on="cursor=", skip=0, times=None))
    with pytest.raises(TransientError):
        here.take(RUN)
    here.server.clear()
    here.server.faults.append(fault(K.UNPROCESSABLE, on="cursor=", skip=0, times=1))
    assert here.kept(here.take(RUN)) == held(here.server.platform, RUN)
    assert here.server.faults[0].hits == 1


def test_what_an_earlier_version_staged_is_not_used_and_is_tidied_up(here: Account, platform):
    here.server.faults.append(fault(K.SERVICE_UNAVAILABLE, skip=16, times=None))
    with pytest.raises(TransientError):
        here.take(RUN)
    here.server.clear()
    staged = here.staged()
    for path in staged:
        path.rename(path.with_name(f"{path.name[:32]}.jsonl.zst"))
    assert here.kept(here.take(RUN)) == held(platform, RUN)
    assert here.staged() == []


@pytest.mark.parametrize("damage", [b"", b"no zstd"], ids=["empty", "garbled"])
def test_what_a_crash_of_the_machine_left_damaged_on_the_stage_is_fetched_again(here: Account, platform, damage):
    here.server.faults.append(fault(K.SERVICE_UNAVAILABLE, skip=16, times=None))
    with pytest.raises(TransientError):
        here.take(RUN)
    here.server.clear()
    for path in here.staged():
        path.write_bytes(damage)
    assert here.kept(here.take(RUN)) == held(platform, RUN)


def test_what_was_staged_of_another_state_of_the_run_is_not_used(here: Account, platform):
    here.server.faults.append(fault(K.SERVICE_UNAVAILABLE, skip=16, times=None))
    with pytest.raises(TransientError):
        here.take(RUN)
    here.server.clear()
    platform.change_result(RUN)
    assert here.kept(here.take(RUN)) == held(platform, RUN)
    assert here.staged() == []


def test_what_did_not_add_up_is_not_where_the_next_reading_begins(here: Account, platform):
    here.server.faults += [
        Fault(K.NO_PROCESSING_STATUS, "indexes/idx_1/videos", times=None),
        Fault(K.PAGE_SKIPS_ROWS, "/results"),
    ]
    with pytest.raises(SourceDataError, match="a difference of 1"):
        here.take(RUN)
    assert here.staged() == []
    assert here.kept(here.take(RUN)) == held(platform, RUN)


def test_two_that_read_the_same_run_at_once_both_have_it(here: Account, platform):
    here.server.delay = 0.003
    others = [Account(here.server, here.folder) for _ in range(3)]
    taken = []
    threads = [threading.Thread(target=lambda one=one: taken.append(one.take(RUN))) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.source.close()
    assert [snapshot.revision for snapshot in taken] == [1, 1, 1]
    assert len({snapshot.data_version for snapshot in taken}) == 1
    assert here.kept(taken[0]) == held(platform, RUN)
    assert here.staged() == []


def test_what_another_process_tidied_away_is_read_again_and_does_not_gather_in_memory(long_ones: Account):
    here = long_ones
    run = here.source.prompt_run(INDEX, RUN)
    stage = StoredStage(LocalConnector("storage", here.folder, make_root=True), "snapshots/idx_1/run", "0" * 16)
    with (
        patch.object(videovector_items, "_MOST_HELD_BYTES", 0),
        patch.object(videovector_answers, "_FILES_AT_HAND", 0),
        here.source.results(run, stage) as results,
    ):
        once = [document for page in results.segments() for document in page.documents]
        assert len(list(results.videos())) > 0, "all of it was fetched"
        while not here.staged():
            time.sleep(0.001)
        stage.clear()
        here.server.clear()
        assert [document for page in results.segments() for document in page.documents] == once
        assert here.server.count("/results") >= len(here.server.platform.runs[RUN].segments)
        assert here.staged(), "what was read again is staged again"
        here.server.clear()
    assert results.run_afterwards() == run
    assert here.server.count(f"/prompt-runs/{RUN}$") == 1, "it was asked for before that"


def test_a_disk_that_is_full_ends_a_reading_that_says_so_and_the_next_one_goes_on(long_ones: Account):
    here = long_ones
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(TransientError, match="Free space"):
            here.take(RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert here.kept(here.take(RUN)) == held(here.server.platform, RUN)
    assert here.staged() == []


# What all readings of a process share


def test_one_that_is_turned_away_makes_all_accounts_of_the_process_wait(here: Account, platform):
    other = Account(here.server, here.folder.parent / "other")
    assert other.source.api.budget is here.source.api.budget
    here.server.faults.append(fault(K.RATE_LIMITED, on="/prompts/", skip=0, seconds=1))
    threads = [threading.Thread(target=one.take, args=(run,)) for one, run in ((here, RUN), (other, "run_001"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.source.close()
    began = sorted(request.began for request in here.server.requests)
    assert max(after - before for before, after in pairwise(began)) > 0.9
    assert here.source.api.budget.spent.waited > 0.9
