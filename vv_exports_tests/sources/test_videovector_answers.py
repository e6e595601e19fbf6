"""What VideoVector's address answers is of any size and any kind: it is bounded, and told at once."""

import gzip
import json
import logging
import os
import subprocess
import sys
import zlib

import pyarrow as pa
import pytest
import zstandard

from vv_exports.errors import CredentialsError, SourceDataError, TransientError, VVExportsError
from vv_exports_tests.deployments import write_config
from vv_exports_tests.fakes.faults import Fault, FaultKind
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector
from vv_exports_tests.sources.accounts import INDEX, KEY_ENV, Account, account, fault, held

RUN = "run_000"
K = FaultKind
MOST = 2**20
LARGE = b'{"data":["' + b"x" * (10 * MOST) + b'"]}'


def answered(body: bytes, on: str = "/results", status: int = 200, **headers: str) -> Fault:
    """Always this answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(K.ANSWERED_WITH, on, times=None, answered=(status, named, body))


ENCODED = {
    "identity": LARGE,
    "gzip": gzip.compress(LARGE, 1),
    "deflate": zlib.compress(LARGE, 1),
    "zstd": zstandard.compress(LARGE),
    "br": pa.compress(LARGE, codec="brotli", asbytes=True),
    "gzip, gzip": gzip.compress(gzip.compress(LARGE)),
}


@pytest.mark.parametrize(
    "limits", [b'{"categories": [1]}', b'{"categories": {"a\\nb": {"minute_limit": ["x"]}}}', b"5"]
)
def test_limits_of_another_shape_do_not_stop_a_check(here: Account, limits):
    here.server.faults.append(answered(limits, on="/rate-limit/status"))
    found = next(one for one in here.source.check([INDEX]) if one.step == "rate limits")
    assert found.outcome == "ok"
    assert found.detail.isprintable()


@pytest.fixture(scope="module")
def platform():
    return make_platform(media=4, runs=2, segments=(1, 120), failed_share=0.05)


@pytest.fixture
def here(platform, tmp_path):
    with account(platform, tmp_path / "storage", request_timeout_seconds=10, max_answer_bytes=MOST) as one:
        yield one


@pytest.mark.parametrize("encoding", ENCODED)
def test_an_answer_that_unpacks_to_more_than_the_limit_is_given_up_at_once(here: Account, encoding):
    wrong = answered(ENCODED[encoding], content_encoding=encoding)
    here.server.faults.append(wrong)
    with pytest.raises(SourceDataError, match=r"GET /prompt-runs/run_000/results.*1,048,576.*source.max_answer_bytes"):
        here.take(RUN)
    media = {request.path for request in here.server.requests if "/results" in request.path}
    assert wrong.hits == len(media), "it is the same the next time: nobody asks again"
    assert here.store.current(INDEX, RUN) is None


def test_an_answer_without_an_end_is_given_up_at_the_limit(here: Account):
    here.server.faults.append(fault(K.ENDLESS_BODY, skip=0))
    with pytest.raises(SourceDataError, match=r"the answer is longer than 1,048,576 bytes.*source\.max_answer_bytes"):
        here.take(RUN)


def test_a_listing_that_is_too_large_is_the_indexs_trouble(here: Account):
    here.server.faults.append(answered(LARGE, on="/indexes/idx_1/prompt-runs"))
    with pytest.raises(SourceDataError, match=r"GET /indexes/idx_1/prompt-runs.*source\.max_answer_bytes"):
        here.source.prompt_runs(INDEX)
    assert here.server.count("prompt-runs") == 1


def test_the_other_run_of_the_index_arrives(here: Account, platform):
    here.server.faults.append(answered(ENCODED["gzip"], on=f"{RUN}/results", content_encoding="gzip"))
    with pytest.raises(SourceDataError):
        here.take(RUN)
    assert here.kept(here.take("run_001")) == held(platform, "run_001")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br", "x-gzip", "gzip, identity"])
def test_an_answer_within_the_limit_arrives_however_it_is_packed(here: Account, encoding):
    index = json.dumps([here.server.platform.indexes[INDEX]]).encode()
    pack = {"deflate": zlib.compress, "zstd": zstandard.compress, "br": lambda data: pa.compress(data, "brotli", True)}
    wrong = answered(pack.get(encoding, gzip.compress)(index), "/indexes", content_encoding=encoding)
    here.server.faults.append(wrong)
    assert [index.index_id for index in here.source.indexes()] == [INDEX]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"data":[' + b"{}," * 200_000 + b"{}]}", "holds more than 32,768 values"),
        (b'{"data":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "more than 32,768 values"),
        (b'{"data":[' + b"[" * 10_000 + b"]" * 10_000 + b"]}", "nested too deep to be read"),
    ],
    ids=["many", "many and deep", "deep"],
)
def test_what_would_be_far_larger_decoded_is_refused_before(here: Account, body, said):
    wrong = answered(body)
    here.server.faults.append(wrong)
    with pytest.raises(SourceDataError, match=said):
        here.take(RUN)
    assert here.server.count("/results") <= 4


@pytest.mark.parametrize("depth", [100, 400, 700, 900, 950, 980])
def test_metadata_of_any_depth_arrives_or_is_an_error_of_ours(tmp_path, depth):
    platform = make_platform(media=1, runs=1, segments=(1, 1))
    (row,) = next(iter(platform.runs[RUN].segments.values()))
    with account(platform, tmp_path / "storage") as one:
        text = json.dumps({**row, "metadata": "DEEP"}).replace('"DEEP"', '{"a":[' * depth + "1" + "]}" * depth)
        page = f'{{"data":[{text}],"pagination":{{"has_more":false,"next_cursor":null}}}}'
        one.server.faults.append(answered(page.encode()))
        try:
            snapshot = one.take(RUN)
        except VVExportsError as error:
            assert "nested too deep" in str(error)  # noqa: PT017
        else:
            assert snapshot.rows("segments") == 1


def test_an_integer_of_a_million_digits_is_bounded(tmp_path):
    platform = make_platform(media=1, runs=1, segments=(1, 1))
    (row,) = next(iter(platform.runs[RUN].segments.values()))
    with account(platform, tmp_path / "storage") as one:
        text = json.dumps({**row, "metadata": {"people": "HUGE", "title": "x"}}).replace('"HUGE"', "9" * 1_000_000)
        page = f'{{"data":[{text}],"pagination":{{"has_more":false,"next_cursor":null}}}}'
        one.server.faults.append(answered(page.encode()))
        assert one.take(RUN).rows("segments") == 1


@pytest.mark.parametrize("field", ["fresh", "start_time", "metadata"])
def test_a_number_that_nobody_can_read_is_told_with_its_place(tmp_path, field):
    platform = make_platform(media=1, runs=1, segments=(1, 1))
    (row,) = next(iter(platform.runs[RUN].segments.values()))
    with account(platform, tmp_path / "storage") as one:
        text = json.dumps({**row, field: {"deep": "ODD"}}).replace('"ODD"', "1e99999999999999999999")
        page = f'{{"data":[{text}],"pagination":{{"has_more":false,"next_cursor":null}}}}'
        one.server.faults.append(answered(page.encode()))
        with pytest.raises(
            SourceDataError, match=r"vid_0000 in prompt run run_000, row 1: it cannot be read.*exponent"
        ):
            one.take(RUN)
        assert one.staged() == [], "it may be right the next time"


def test_headers_of_megabytes_are_told_and_not_asked_for_again(here: Account):
    here.server.faults.append(answered(b"[]", "/indexes", x_long="x" * 3_000_000))
    with pytest.raises(SourceDataError, match=r"GET /indexes.*: the headers of the answer are too long"):
        here.source.indexes()
    assert here.server.count("/indexes") == 1


def test_an_error_page_without_an_end_is_the_error_that_its_status_says(here: Account):
    here.server.faults.append(answered(LARGE, "/indexes", status=404, content_type="text/html"))
    with pytest.raises(VVExportsError, match="does not seem to be VideoVector's API \\(404"):
        here.source.indexes()


def test_a_list_of_results_that_never_ends_is_left(here: Account):
    row = here.server.platform.segment_results(RUN)[0]
    rows = ({**row, "segment_id": f"s{number}"} for number in range(10**9))

    def another() -> None:
        data = {"data": [next(rows) for _ in range(100)]}
        more = {"has_more": True, "next_cursor": f"c_{data['data'][0]['segment_id']}"}
        endless.answered = (200, {}, json.dumps({**data, "pagination": more}).encode())

    endless = Fault(K.ANSWERED_WITH, f"video_id={row['video_id']}", times=None, change=another)
    here.server.faults.append(endless)
    with pytest.raises(SourceDataError, match="results were read, and the run states total_segments = "):
        here.take(RUN)


def test_what_is_staged_and_was_made_a_bomb_is_fetched_again(here: Account, platform):
    here.server.faults.append(fault(K.SERVICE_UNAVAILABLE, on="video_id=vid", skip=3, times=None))
    with pytest.raises(TransientError):
        here.take(RUN)
    here.server.clear()
    assert here.staged()
    for path, bomb in zip(here.staged(), [b"x" * (5 * MOST), b"\n" * (4 * MOST)] * 9, strict=False):
        path.write_bytes(zstandard.compress(bomb))
    assert here.kept(here.take(RUN)) == held(platform, RUN)


# Junk


@pytest.mark.parametrize("kind", [K.HTML_WITH_200, K.EMPTY_BODY, K.INVALID_JSON])
def test_an_answer_that_is_no_json_is_tried_three_times(here: Account, kind):
    here.server.faults.append(Fault(kind, "", times=None))
    with pytest.raises(SourceDataError, match=r"GET /indexes.*no JSON.*3 attempts in 0 s\. Check that source.base_url"):
        here.source.indexes()
    assert here.server.count("/indexes") == 3


def test_the_reason_is_told_at_the_first_failure_and_what_it_waits_for(here: Account, caplog):
    here.server.faults.append(Fault(K.HTML_WITH_200, "", times=1))
    with caplog.at_level(logging.INFO, "vv_exports"):
        here.source.indexes()
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert told.getMessage().startswith(
        "GET /indexes?include_defaults=false: 200, and the answer is no JSON (text/html"
    )
    assert "attempt 1 of 3 failed, next in 0.0 s" in told.getMessage()


def test_of_many_requests_that_fail_for_one_reason_one_speaks(here: Account, caplog):
    here.server.faults.append(Fault(K.SERVICE_UNAVAILABLE, "/results", times=4))
    with caplog.at_level(logging.INFO, "vv_exports"):
        here.take(RUN)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len({line.partition(":")[0] for line in told}) == 1


def test_why_no_answer_came_is_told(here: Account):
    nobody = Account(here.server, here.folder)
    nobody.source.api.base_url = "http://127.0.0.1:9/api/v2"
    with pytest.raises(TransientError, match=r"no answer \(ConnectError: .*\); 6 attempts .*out of reach"):
        nobody.source.indexes()
    nobody.source.close()


@pytest.mark.parametrize("kind", [K.HTML_WITH_200, K.SERVICE_UNAVAILABLE, K.OTHER_SERVICE, K.RATE_LIMITED])
def test_the_platforms_own_automation_is_looked_for_once(here: Account, kind):
    here.server.faults.append(Fault(kind, "automations/export", times=None))
    with pytest.raises(VVExportsError):
        here.source.upstream_automation(INDEX)
    assert here.server.count("automations/export") == 1


@pytest.mark.parametrize("ask", ["indexes", "index", "runs", "run", "connectors"])
def test_another_service_is_told_from_the_api(here: Account, ask):
    here.server.faults.append(Fault(K.OTHER_SERVICE, "", times=None))
    asked = {
        "indexes": here.source.indexes,
        "index": lambda: here.source.index(INDEX),
        "runs": lambda: here.source.prompt_runs(INDEX),
        "run": lambda: here.source.prompt_run(INDEX, RUN),
        "connectors": here.source.upstream_connectors,
    }
    with pytest.raises(SourceDataError, match=r"expected .*source.base_url is VideoVector's API"):
        asked[ask]()


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_of_a_proxy_is_not_taken_for_the_apis_word_on_the_key(here: Account, status):
    here.server.faults.append(answered(b"<html>", "", status=status, Content_Type="text/html"))
    with pytest.raises(
        CredentialsError, match=f"{status}, text/html, which is no answer of VideoVector's API: a proxy"
    ):
        here.source.indexes()


# The commands, in processes of their own

COMMAND = """
import sys
from vv_exports.cli import main
from vv_exports_tests.memory import peak_bytes
try:
    main(sys.argv[1:])
finally:
    print("peak", peak_bytes(), file=sys.stderr)
"""


def command(folder, server, *arguments: str) -> subprocess.CompletedProcess[str]:
    write_config(
        folder,
        {
            "source": {"kind": "videovector", "base_url": server.base_url, "api_key_env": KEY_ENV},
            "storage": "storage",
            "connectors": {"mine": {"provider": "local", "root": ".", "scopes": ["export"]}},
            "indexes": {INDEX: {"automations": {"team": {"destination_connector_id": "mine", "start": "beginning"}}}},
        },
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VV_", "DAGSTER_"))}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder,
        env={**kept, KEY_ENV: server.api_key, "NO_PROXY": "127.0.0.1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_bombs_take_less_than_600_mib_and_cost_their_runs_alone(tmp_path):
    with FakeVideoVector(make_platform(media=20, runs=3, segments=(1, 5))) as server:
        server.faults.append(answered(_unpacks_to_1_5_gib(), "run_000/results", content_encoding="gzip"))
        server.faults.append(Fault(K.ENDLESS_BODY, "run_001/results", times=None))
        done = command(tmp_path, server, "automations", "run", INDEX, "team")
    assert done.returncode == 1, done.stderr
    assert "unpacks to more than 67,108,864 bytes, and source.max_answer_bytes is 67,108,864" in done.stderr
    assert "is longer than 67,108,864 bytes, and source.max_answer_bytes is 67,108,864" in done.stderr
    for run_id, there in (("run_000", False), ("run_001", False), ("run_002", True)):
        assert (f"GET /prompt-runs/{run_id}/results" in done.stderr) is not there
        assert bool(list(tmp_path.rglob(f"prompt_run_id={run_id}/part-*"))) is there
    assert int(done.stderr.rpartition("peak ")[2]) < 600 * 2**20


@pytest.mark.slow
def test_a_login_page_for_every_answer_is_told_within_seconds(tmp_path):
    with FakeVideoVector(make_platform(media=1, runs=1)) as server:
        server.faults.append(Fault(K.HTML_WITH_200, "", times=None))
        done = command(tmp_path, server, "runs", "list", INDEX)
        assert len(server.requests) == 3, "for the listing, and no look for the platform's automation"
    assert done.returncode == 1
    *others, error, _ = done.stderr.splitlines()
    assert all("of 3 failed, next in" in line and line.startswith("Warning: GET /indexes/") for line in others)
    assert error.startswith("Error: GET /indexes/idx_1/prompt-runs")
    assert "Check that source.base_url is VideoVector's API" in error


def _unpacks_to_1_5_gib() -> bytes:
    """1.5 MB. The end is missing, which nobody gets to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * 1535


NOBODY_CLOSES = """
import sys
from vv_exports.sources.registry import SOURCES

source = SOURCES["videovector"](
    base_url=sys.argv[1], api_key_env="KEY", environ={"KEY": sys.argv[2]}, max_concurrency=1,
    max_requests_per_second=None, request_timeout_seconds=5,
)
print(len(source.indexes()))
if sys.argv[3] == "forgotten":
    del source
"""


@pytest.mark.slow
@pytest.mark.parametrize("left", ["forgotten", "there"])
def test_a_process_whose_source_nobody_closes_ends_without_a_word(left):
    with FakeVideoVector(make_platform(media=1, runs=1)) as server:
        done = subprocess.run(
            [sys.executable, "-c", NOBODY_CLOSES, server.base_url, server.api_key, left],
            env={**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
