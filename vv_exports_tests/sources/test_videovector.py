"""VideoVector as the source: everything arrives as it is, in order; or nothing, and a clear error."""

import pytest

from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.errors import (
    CredentialsError,
    NotFoundError,
    QuotaError,
    RequestError,
    SourceDataError,
    TransientError,
)
from vv_exports_tests.fakes.faults import Fault, FaultKind
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.sources.accounts import INDEX, Account, account, fault, held

pytestmark = pytest.mark.slow

RUN = "run_000"
K = FaultKind

HARMLESS = [
    fault(K.RATE_LIMITED),
    fault(K.RATE_LIMITED, seconds=1),
    fault(K.RATE_LIMITED_UNTIL_DATE, seconds=1),
    fault(K.RATE_LIMITED_WITHOUT_RETRY_AFTER),
    fault(K.RATE_LIMITED_WITHOUT_RETRY_AFTER, on="results|video-result", times=20),
    fault(K.SERVER_ERROR),
    fault(K.SERVICE_UNAVAILABLE, times=4),
    fault(K.SERVICE_UNAVAILABLE, on="prompts/", skip=0),
    fault(K.SERVICE_UNAVAILABLE, on="failed-segments", skip=0),
    fault(K.ERROR_IS_TEXT),
    fault(K.FASTAPI_DETAIL),
    fault(K.HTML_ERROR_PAGE),
    fault(K.HTML_WITH_200),
    fault(K.INVALID_JSON),
    fault(K.INVALID_JSON, on="video-result"),
    fault(K.EMPTY_BODY),
    fault(K.CUT_BODY, times=3),
    fault(K.CUT_BODY, on=r"GET /indexes/idx_1/videos"),
    fault(K.CONNECTION_RESET, times=3),
    fault(K.HANGS, seconds=2.0),
    fault(K.SLOW_BODY, seconds=0.3),
    fault(K.REPEATED_CURSOR),
    fault(K.EMPTY_PAGE_WITH_MORE, times=3),
    fault(K.PAGE_REPEATS_ROWS),
    fault(K.PAGE_SKIPS_ROWS),
    fault(K.ROWS_MISSING_AT_END),
    fault(K.NULL_MARKERS, on="", times=None),
    fault(K.NULL_COUNTERS, on="prompt-runs(/run_000)?(\\?|$)", times=None, skip=0),
    fault(K.UNKNOWN_FIELDS, on="indexes|prompts|prompt-runs/run_000$", times=None),
    fault(K.VIDEO_ID_NULL, times=None),
    fault(K.NO_PROCESSING_STATUS, on="indexes/idx_1/videos", times=None, skip=0),
    fault(K.MEDIA_MISSING, on="indexes/idx_1/videos", skip=0),
]
"""Faults after which everything arrives nevertheless."""

FATAL = [
    (fault(K.RATE_LIMITED, times=None), TransientError, "rate_limit_exceeded"),
    (fault(K.RATE_LIMITED_FOR_AN_HOUR), QuotaError, "3,600 s"),
    (fault(K.SERVER_ERROR, times=None), TransientError, "500 internal_error"),
    (fault(K.SERVICE_UNAVAILABLE, times=None), TransientError, "6 attempts"),
    (fault(K.ERROR_IS_TEXT, times=None), TransientError, "500"),
    (fault(K.FASTAPI_DETAIL, times=None), TransientError, "502"),
    (fault(K.HTML_ERROR_PAGE, times=None), TransientError, "504"),
    (fault(K.HTML_WITH_200, times=None), SourceDataError, "no JSON \\(text/html"),
    (fault(K.INVALID_JSON, times=None), SourceDataError, "no JSON"),
    (fault(K.EMPTY_BODY, times=None), SourceDataError, "no JSON .*0 bytes"),
    (fault(K.CUT_BODY, times=None), TransientError, "breaks off"),
    (fault(K.CONNECTION_RESET, times=None), TransientError, "out of reach"),
    (fault(K.HANGS, times=None, seconds=2.0), TransientError, "no complete answer within 1 s"),
    (fault(K.SLOW_BODY, times=None, seconds=3.0), TransientError, "no complete answer within 1 s"),
    (fault(K.REDIRECT), RequestError, "redirect to https://login.test/start, .*base_url"),
    (fault(K.UNAUTHORIZED), CredentialsError, "VV_TEST_API_KEY"),
    (fault(K.UNAUTHORIZED_AND_SAYS_THE_KEY), CredentialsError, "Bad key \\*\\*\\*"),
    (fault(K.FORBIDDEN), CredentialsError, "scope 'read'"),
    (fault(K.NOT_FOUND), NotFoundError, "results"),
    (fault(K.HTML_NOT_FOUND), RequestError, "Check source.base_url"),
    (fault(K.UNPROCESSABLE), RequestError, "validation_error"),
    (fault(K.QUOTA_USED_UP), QuotaError, "reset at 2026-11-25T00:00:00Z"),
    (fault(K.RATE_QUOTA_USED_UP), QuotaError, "reset at 2026-11-25T00:00:00Z"),
    (fault(K.NOT_FOUND, on="video-result", times=None), SourceDataError, "states a result, and there is none"),
    (fault(K.REPEATED_CURSOR, times=None), SourceDataError, "cursor is one that was followed before"),
    (fault(K.HAS_MORE_WITHOUT_CURSOR, times=None), SourceDataError, "gives no cursor"),
    (fault(K.CURSOR_WITHOUT_HAS_MORE, times=None), SourceDataError, "successful_segments = "),
    (fault(K.PAGINATION_MISSING, times=None), SourceDataError, "found no 'pagination'"),
    (fault(K.PAGE_REPEATS_ROWS, times=None), SourceDataError, "is there twice"),
    (fault(K.PAGE_SKIPS_ROWS, times=None), SourceDataError, "successful_segments = "),
    (fault(K.ROWS_MISSING_AT_END, times=None), SourceDataError, "successful_segments = "),
    (fault(K.BARE_ARRAY, times=None), SourceDataError, "expected a page"),
    (fault(K.PAGINATION_NULL, times=None), SourceDataError, "'pagination' .* null"),
    (fault(K.DATA_NULL, times=None), SourceDataError, "data: null"),
    (fault(K.METADATA_NULL, times=None), SourceDataError, "metadata to be an object, found None"),
    (fault(K.OTHER_RUNS_ROWS, times=None), SourceDataError, "run_id to be the run's"),
    (fault(K.OTHER_VIDEOS_ROWS, times=None), SourceDataError, "is one of media item 'another_video'"),
    (fault(K.MEDIA_MISSING, on="indexes/idx_1/videos", times=None, skip=0), SourceDataError, "a difference of 1"),
    (fault(K.WRONG_ID, on="prompt-runs/run_000$", skip=0), SourceDataError, "run_000_other"),
    (fault(K.WRONG_ID, on="/prompts/", skip=0), SourceDataError, "prm_0_other"),
    (fault(K.WRONG_ID, on="/failed-segments", skip=0), SourceDataError, "run_000_other"),
]
"""Faults that end in an error: its class, and what it must say."""


def name_of(value):
    if isinstance(value, Fault):
        return f"{value.kind.name}{'-always' if value.times is None else f'-{value.times}'}-{value.on.strip('/')}"
    return ""


@pytest.fixture(scope="module")
def platform():
    return make_platform(media=7, runs=2, segments=(0, 230), failed_share=0.05)


@pytest.fixture(scope="module")
def whole(platform):
    """What is read of the run, whatever goes wrong."""
    return held(platform, RUN)


@pytest.fixture
def here(platform, tmp_path):
    with account(platform, tmp_path / "storage", request_timeout_seconds=1) as one:
        yield one


def test_a_run_arrives_whole_typed_and_in_order(here: Account, platform):
    for run in here.source.prompt_runs(INDEX):
        snapshot = here.take(run.run_id)
        assert here.kept(snapshot) == held(platform, run.run_id)
        assert snapshot.rows("segments") > 500
        assert snapshot.rescued_rows > 10
        assert (snapshot.status, snapshot.rows("failures") > 10) == (RunStatus.COMPLETED_WITH_FAILURES, True)
    assert here.staged() == []
    assert here.server.writes == [], "the platform's own exports are never called"


def test_what_reading_a_run_takes_is_told_before_it_is_read(here: Account):
    run = next(run for run in here.source.prompt_runs(INDEX) if run.run_id == RUN)
    effort, media = here.source.effort(run), here.source.api.budget.spent.requests
    here.take(RUN)
    taken = here.source.api.budget.spent.requests - media
    assert effort.media > 1
    assert abs(taken - effort.requests) <= effort.media, "the list of media, which all runs share, comes on top"
    assert here.source.effort(run) == effort


@pytest.mark.parametrize("wrong", HARMLESS, ids=name_of)
def test_a_fault_that_passes_costs_nothing_but_time(here: Account, whole, wrong: Fault):
    here.server.faults.append(wrong)
    snapshot = here.take(RUN)
    assert here.kept(snapshot) == whole
    assert wrong.hits, "the fault was met"


@pytest.mark.parametrize(("wrong", "error", "said"), FATAL, ids=name_of)
def test_a_fault_that_stays_is_told_and_nothing_is_kept(here: Account, whole, wrong: Fault, error, said):
    here.server.faults.append(wrong)
    with pytest.raises(error, match=said) as caught:
        here.take(RUN)
    assert type(caught.value) is error
    assert wrong.hits
    assert here.server.api_key not in str(caught.value)
    assert here.server.TOKEN_MARKER not in str(caught.value)
    assert here.store.current(INDEX, RUN) is None
    here.server.clear()
    assert here.kept(here.take(RUN)) == whole, "and it arrives once the fault is gone"
