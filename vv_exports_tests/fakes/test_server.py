"""The local server gives the official SDK what it holds, and goes wrong in the way that each switch says."""

import socket
import threading
import time

import httpx
import pytest
import videovector
from pydantic import ValidationError

from vv_exports_tests.fakes.faults import Fault, FaultKind
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector

pytestmark = pytest.mark.slow

K = FaultKind
RESULTS = "/prompt-runs/run_000/results?video_id=vid_0000&limit=5"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    platform = make_platform(media=5, runs=2, segments=(12, 30), failed_share=0.1, odd_values=False)
    with FakeVideoVector(platform) as one:
        yield one


@pytest.fixture
def sdk(server):
    with videovector.VideoVector(
        api_key=server.api_key, base_url=server.base_url, max_retries=1, max_retry_delay=1, timeout=2
    ) as client:
        yield client


def get(server, path, **headers):
    headers = {"X-API-Key": server.api_key, **headers}
    return httpx.get(server.base_url + path, headers=headers, timeout=2)


# With the official SDK


def test_the_sdk_reads_everything(server, sdk):
    platform = server.platform
    (index,) = sdk.indexes.list(include_defaults=False)
    videos = list(sdk.indexes.list_videos(index.index_id, limit=2).auto_paging_iter())
    assert [video.video_id for video in videos] == list(platform.media["idx_1"])
    assert len(videos[0].processing_status) == 2
    assert videos[-1].processing_status == []
    for run in sdk.indexes.list_prompt_runs(index.index_id, limit=1).auto_paging_iter():
        assert run == sdk.prompt_runs.retrieve(run.run_id)
        found = [
            result
            for video in videos
            for result in sdk.prompt_runs.list_results(run.run_id, video_id=video.video_id, limit=7).auto_paging_iter()
        ]
        expected = {row["segment_id"]: row["metadata"] for row in platform.segment_results(run.run_id)}
        assert {result.segment_id: result.metadata for result in found} == expected
        assert len(found) == len(expected) == run.completed_segments
        for row in platform.video_results(run.run_id):
            assert sdk.prompt_runs.get_video_result(run.run_id, row["video_id"]).metadata == row["metadata"]
        assert sdk.prompts.retrieve(run.prompt_id).json_schema
        manifest = sdk.prompt_runs.get_failed_segments(run.run_id)
        assert manifest.failed_segments == len(platform.failed_segments(run.run_id))
        assert run.total_segments == run.completed_segments + manifest.failed_segments
    assert [connector.connector_id for connector in sdk.connectors.list()] == ["conn_up"]
    with pytest.raises(videovector.NotFoundError):
        sdk.prompt_runs.get_video_result("run_001", "vid_0000")


def test_a_wrong_key_and_a_missing_scope_are_told(server, sdk):
    with (
        videovector.VideoVector(api_key="sk_live_no", base_url=server.base_url) as other,
        pytest.raises(videovector.AuthenticationError) as caught,
    ):
        other.indexes.list()
    assert caught.value.error_code == "authentication_invalid_api_key"
    server.scopes = {"search"}
    sdk.indexes.list()
    with pytest.raises(videovector.AuthorizationError):
        sdk.prompt_runs.retrieve("run_000")


def test_the_sharp_edges_of_the_sdk_show(server, sdk):
    page = sdk.prompt_runs.list_results("run_000", video_id="vid_0000", limit=5)
    server.faults.append(Fault(K.REPEATED_CURSOR, "results", times=None))
    rows = page.next_page().auto_paging_iter()
    assert len({next(rows).segment_id for _ in range(50)}) == 5, "it goes round and round"
    for kind, error in ((K.NULL_MARKERS, ValidationError), (K.PAGINATION_NULL, AttributeError)):
        server.faults[:] = [Fault(kind, "results", times=None)]
        with pytest.raises(error):
            sdk.prompt_runs.list_results("run_000", video_id="vid_0000")
    server.faults[:] = [Fault(K.BARE_ARRAY, "results", times=None)]
    with pytest.raises(AttributeError):
        sdk.prompt_runs.list_results("run_000", video_id="vid_0000")
    server.faults[:] = [Fault(K.REDIRECT, "results", times=None)]
    assert len(sdk.prompt_runs.list_results("run_000", video_id="vid_0000")) == 0, "a redirect passes for an empty page"
    server.clear()
    server.faults[:] = [Fault(K.ERROR_IS_TEXT, "results", times=2)]
    with pytest.raises(videovector.VideoVectorError) as caught:
        sdk.prompt_runs.list_results("run_000", video_id="vid_0000")
    assert (caught.value.status_code, server.count("results")) == (None, 2)
    with pytest.raises(videovector.NotFoundError):
        sdk.prompt_runs.retrieve("../indexes/idx_1/nothing?x=")
    assert server.requests[-1].path.startswith("/indexes/idx_1/nothing"), "an id with a slash asks for another thing"


def test_writes_are_refused_and_remembered(server, sdk):
    with pytest.raises(videovector.VideoVectorError):
        sdk.exports.create_index_export("idx_1")
    assert server.writes
    assert set(server.writes) == {"POST /api/v2/exports/index/idx_1"}


# Faults


@pytest.mark.parametrize(
    ("kind", "status", "header"),
    [
        (K.RATE_LIMITED, 429, ("retry-after", "7")),
        (K.RATE_LIMITED_UNTIL_DATE, 429, ("retry-after", "GMT")),
        (K.RATE_LIMITED_WITHOUT_RETRY_AFTER, 429, None),
        (K.RATE_LIMITED_FOR_AN_HOUR, 429, ("retry-after", "3600")),
        (K.SERVER_ERROR, 500, None),
        (K.SERVICE_UNAVAILABLE, 503, None),
        (K.ERROR_IS_TEXT, 500, None),
        (K.FASTAPI_DETAIL, 502, None),
        (K.HTML_ERROR_PAGE, 504, ("content-type", "text/html")),
        (K.REDIRECT, 307, ("location", "token=tok-leak-canary-")),
        (K.UNAUTHORIZED, 401, None),
        (K.UNAUTHORIZED_AND_SAYS_THE_KEY, 401, None),
        (K.FORBIDDEN, 403, None),
        (K.NOT_FOUND, 404, None),
        (K.HTML_NOT_FOUND, 404, ("content-type", "text/html")),
        (K.UNPROCESSABLE, 422, None),
        (K.QUOTA_USED_UP, 409, None),
        (K.RATE_QUOTA_USED_UP, 429, None),
        (K.HTML_WITH_200, 200, ("content-type", "text/html")),
        (K.INVALID_JSON, 200, ("content-type", "application/json")),
        (K.EMPTY_BODY, 200, ("content-length", "0")),
    ],
)
def test_another_answer_in_place_of_the_right_one(server, kind, status, header):
    server.faults.append(Fault(kind, seconds=7))
    answer = get(server, RESULTS)
    assert answer.status_code == status
    if header is not None:
        assert header[1] in answer.headers[header[0]]
    if kind in {K.RATE_LIMITED_WITHOUT_RETRY_AFTER, K.RATE_QUOTA_USED_UP}:
        assert "retry-after" not in answer.headers
    if kind is K.UNAUTHORIZED_AND_SAYS_THE_KEY:
        assert server.api_key in answer.text
    assert get(server, RESULTS).status_code == 200, "once only"


@pytest.mark.parametrize(
    ("kind", "error"),
    [(K.CUT_BODY, httpx.RemoteProtocolError), (K.CONNECTION_RESET, httpx.HTTPError), (K.HANGS, httpx.ReadTimeout)],
)
def test_the_connection_does_not_hold(server, kind, error):
    server.faults.append(Fault(kind, seconds=3))
    with pytest.raises(error):
        get(server, RESULTS)
    assert get(server, RESULTS).json()["data"]


def test_a_slow_body_arrives_in_the_end(server):
    server.faults.append(Fault(K.SLOW_BODY, seconds=0.2))
    began = time.monotonic()
    assert len(get(server, RESULTS).json()["data"]) == 5
    assert time.monotonic() - began >= 0.15


SHAPED = {
    K.REPEATED_CURSOR: lambda page: page["pagination"]["next_cursor"] == "c_0",
    K.HAS_MORE_WITHOUT_CURSOR: lambda page: page["pagination"] == {"limit": 5, "has_more": True, "next_cursor": None},
    K.CURSOR_WITHOUT_HAS_MORE: lambda page: not page["pagination"]["has_more"] and page["pagination"]["next_cursor"],
    K.EMPTY_PAGE_WITH_MORE: lambda page: not page["data"] and page["pagination"]["has_more"],
    K.PAGE_REPEATS_ROWS: lambda page: len(page["data"]) == 6,
    K.PAGE_SKIPS_ROWS: lambda page: len(page["data"]) == 4,
    K.ROWS_MISSING_AT_END: lambda page: len(page["data"]) == 2 and not page["pagination"]["has_more"],
    K.BARE_ARRAY: lambda page: isinstance(page, list),
    K.PAGINATION_NULL: lambda page: page["pagination"] is None,
    K.PAGINATION_MISSING: lambda page: "pagination" not in page,
    K.DATA_NULL: lambda page: page["data"] is None,
    K.NULL_MARKERS: lambda page: all(row["marker"] is None for row in page["data"]),
    K.NULL_FLAGS: lambda page: all(row["field_extraction_succeeded"] is None for row in page["data"]),
    K.METADATA_NULL: lambda page: page["data"][0]["metadata"] is None,
    K.UNKNOWN_FIELDS: lambda page: all("token" in row["fresh_link"] for row in page["data"]),
    K.OTHER_RUNS_ROWS: lambda page: page["data"][0]["run_id"] == "another_run",
    K.OTHER_VIDEOS_ROWS: lambda page: page["data"][0]["video_id"] == "another_video",
    K.VIDEO_ID_NULL: lambda page: all(row["video_id"] is None for row in page["data"]),
}
ELSEWHERE = {
    K.NULL_COUNTERS: ("/prompt-runs/run_000", lambda run: run["completed_segments"] is None),
    K.UNKNOWN_STATUS: ("/prompt-runs/run_000", lambda run: run["status"] == "queued"),
    K.WRONG_ID: ("/prompt-runs/run_000", lambda run: run["run_id"] == "run_000_other"),
    K.NO_PROCESSING_STATUS: ("/indexes/idx_1/videos", lambda page: "processing_status" not in page["data"][0]),
    K.MEDIA_MISSING: ("/indexes/idx_1/videos", lambda page: page["data"][0]["video_id"] == "vid_0001"),
}


@pytest.mark.parametrize(
    ("kind", "path", "holds"),
    [(kind, RESULTS, holds) for kind, holds in SHAPED.items()]
    + [(kind, path, holds) for kind, (path, holds) in ELSEWHERE.items()],
)
def test_the_right_answer_in_a_wrong_shape(server, kind, path, holds):
    assert not holds(get(server, path).json()) if kind is not K.UNKNOWN_FIELDS else True
    server.faults.append(Fault(kind))
    assert holds(get(server, path).json())


def test_a_change_happens_when_the_request_arrives(server):
    before = len(server.platform.segment_results("run_000"))
    change = Fault(K.CHANGES_WHILE_READ, "results", change=lambda: server.platform.retry_segment("run_000"))
    server.faults.append(change)
    get(server, RESULTS)
    assert len(server.platform.segment_results("run_000")) == before + 1


def test_every_fault_is_tried_here():
    tried = {*SHAPED, *ELSEWHERE, K.CUT_BODY, K.CONNECTION_RESET, K.HANGS, K.SLOW_BODY, K.CHANGES_WHILE_READ}
    tried |= {K.ANSWERED_WITH, K.OTHER_SERVICE, K.ENDLESS_BODY}  # in sources/test_videovector_answers.py
    answers = next(
        mark.args[1] for mark in test_another_answer_in_place_of_the_right_one.pytestmark if mark.name == "parametrize"
    )
    assert tried | {case[0] for case in answers} == set(FaultKind)


def test_a_fault_counts_what_it_acts_on(server):
    fault = Fault(K.SERVICE_UNAVAILABLE, "results", times=2, skip=1)
    server.faults.append(fault)
    assert [get(server, RESULTS).status_code for _ in range(4)] == [200, 503, 503, 200]
    assert get(server, "/indexes").status_code == 200
    assert fault.hits == 2


# The server itself


def test_tokens_are_others_in_every_answer(server):
    first, second = get(server, RESULTS).json()["data"][0], get(server, RESULTS).json()["data"][0]
    assert first["segment_uri"] != second["segment_uri"]
    assert server.TOKEN_MARKER in first["segment_uri"]
    assert first["metadata"] == second["metadata"]


def test_parameters_are_checked(server):
    assert get(server, "/prompt-runs/run_000/results").status_code == 422
    assert get(server, "/indexes/idx_1/videos?limit=101").status_code == 422
    assert get(server, "/indexes/idx_1/videos?cursor=x").status_code == 422
    assert get(server, "/nowhere").status_code == 404
    assert get(server, "/auth/validate").status_code == 204


def test_requests_are_remembered(server):
    get(server, RESULTS)
    get(server, "/indexes")
    assert server.count() == 2
    assert server.count("results") == 1
    assert [request.status for request in server.requests] == [200, 200]
    assert server.most_in_flight == 1
    server.clear()
    assert server.count() == 0


def test_a_closed_server_leaves_nothing_behind():
    before = threading.active_count()
    with FakeVideoVector(make_platform(media=1, runs=1)) as one, FakeVideoVector(make_platform(media=1, runs=1)) as two:
        assert one.base_url != two.base_url
        address = ("127.0.0.1", one.port)
        socket.create_connection(address).close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_what_happens_on_the_platform_keeps_its_counters_true():
    platform = make_platform(media=4, runs=1, failed_share=0.3)
    record = platform.runs["run_000"].record

    def counted():
        return record["completed_segments"], record["total_segments"] - record["completed_segments"]

    def held():
        return len(platform.segment_results("run_000")), len(platform.failed_segments("run_000"))

    assert counted() == held()
    while platform.failed_segments("run_000"):
        assert record["status"] == "completed_with_failures"
        platform.retry_segment("run_000")
        assert counted() == held()
    assert record["status"] == "completed"
    before = platform.segment_results("run_000")
    platform.mark("run_000")
    assert platform.segment_results("run_000") == before


def test_the_same_seed_makes_the_same_platform():
    assert make_platform(seed=3) == make_platform(seed=3)
    assert make_platform(seed=3) != make_platform(seed=4)
