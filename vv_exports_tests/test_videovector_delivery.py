"""A deployment whose source is VideoVector, through the command line: what it delivers, and what it never writes."""

import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

import vv_exports
from vv_exports_tests.cli.running import Said, run, spawn
from vv_exports_tests.deployments import write_config
from vv_exports_tests.fakes.faults import Fault, FaultKind
from vv_exports_tests.fakes.platform import make_platform
from vv_exports_tests.fakes.server import FakeVideoVector

REPOSITORY = Path(vv_exports.__file__).parents[1]
AUTOMATION = {"enabled": True, "paused": False, "destination_connector_id": "mine", "destination_subpath": "theirs"}


class Deployment:
    """A folder with a configuration, and the commands that are run in it."""

    def __init__(self, folder: Path, server: FakeVideoVector) -> None:
        self.folder = folder
        self.server = server
        self.said: list[str] = []
        folder.mkdir()
        config = {
            "source": {"kind": "videovector", "base_url": server.base_url, "max_concurrency": 8},
            "storage": "storage",
            "connectors": {
                "mine": {"provider": "local", "root": ".", "export_base_path": "deliveries", "scopes": ["export"]}
            },
            "indexes": {"idx_1": {"automations": {"team": {"destination_connector_id": "mine", "start": "beginning"}}}},
        }
        write_config(folder, config)
        (folder / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())

    def run(self, *arguments: str, **environment: str) -> Said:
        """A command in this process, with the key in its environment."""
        return self._noted(run(self.folder, *arguments, **{"VIDEO_VECTOR_API_KEY": self.server.api_key, **environment}))

    def spawn(self, *arguments: str) -> Said:
        """A command in a process of its own."""
        environment = {"VIDEO_VECTOR_API_KEY": self.server.api_key, "NO_PROXY": "127.0.0.1"}
        return self._noted(spawn(self.folder, *arguments, **environment))

    def _noted(self, said: Said) -> Said:
        self.said += [said.out, said.err]
        return said


@pytest.fixture
def here(tmp_path):
    platform = make_platform(media=12, runs=3, segments=(1, 60), failed_share=0.05)
    with FakeVideoVector(platform) as server:
        yield Deployment(tmp_path / "deployment", server)


@pytest.mark.slow
def test_a_key_and_an_index_id_are_all_that_is_needed(here: Deployment):
    here.server.platform.runs["run_001"].record["status"] = "processing"
    done = here.spawn("automations", "run", "idx_1", "team", "--json")
    assert done.code == 0, done.err
    platform = here.server.platform
    expected = sum(len(platform.segment_results(run_id)) for run_id in ("run_000", "run_002"))
    assert sorted(json.loads(done.out)["delivered"]) == ["run_000", "run_002"]
    files = str(here.folder / "deliveries/idx_1/segments/**/*.parquet")
    assert duckdb.sql(f"select count(*), count(distinct segment_id) from '{files}'").fetchall() == [
        (expected, expected)
    ]
    assert "run_000: 12 of 12 media" in done.err, "how far it is, is said"
    here.server.clear()
    again = here.run("automations", "run", "idx_1", "team")
    assert "nothing new, nothing written" in again.out
    assert here.server.count("/results|video-result") == 0
    platform.retry_segment("run_000")
    changed = here.run("automations", "run", "idx_1", "team", "--json")
    assert json.loads(changed.out)["delivered"] == ["run_000"]
    assert duckdb.sql(f"select count(*) from '{files}'").fetchall() == [(expected + 1,)]
    assert here.server.writes == []


def test_the_source_can_be_checked(here: Deployment):
    done = here.run("source", "check")
    assert done.code == 0, done.out
    assert f"ok      credentials: {here.server.base_url} accepts the API key in VIDEO_VECTOR_API_KEY" in done.out
    assert "ok      index idx_1: 'Archive': 3 prompt runs, 3 of them finished" in done.out
    assert "595 of 600 requests left this minute" in done.out
    assert "requests/s" in done.out
    assert here.server.writes == []
    findings = json.loads(here.run("source", "check", "--json").out)
    assert {finding["outcome"] for finding in findings} == {"ok"}


@pytest.mark.parametrize(
    ("break_it", "code", "said"),
    [
        (lambda here: {"VIDEO_VECTOR_API_KEY": ""}, 2, "FAILED  credentials: the environment variable"),
        (lambda here: {"VIDEO_VECTOR_API_KEY": "sk_live_" + "0" * 48}, 2, "does not accept the API key"),
        (lambda here: {"VIDEO_VECTOR_API_KEY": "ké\n"}, 2, "is not an API key"),
        (lambda here: here.server.scopes.discard("read"), 2, "FAILED  scope read: "),
        (lambda here: here.server.platform.indexes.clear(), 2, "FAILED  index idx_1: There is no index 'idx_1'"),
        (lambda here: here.server.faults.append(Fault(FaultKind.QUOTA_USED_UP, "", times=None)), 1, "quota"),
    ],
)
def test_a_check_says_what_is_wrong(here: Deployment, break_it, code, said):
    done = here.run("source", "check", **(break_it(here) or {}))
    assert done.code == code
    assert said in done.out
    assert "Traceback" not in done.err
    assert here.server.api_key not in done.out + done.err


def test_what_is_registered_upstream_can_be_listed(here: Deployment):
    (connector,) = json.loads(here.run("connectors", "list", "--upstream", "--json").out)
    assert (connector["connector_id"], connector["provider"], connector["bucket"]) == (
        "conn_up",
        "s3",
        "customer-bucket",
    )
    assert "conn_up" in here.run("connectors", "list", "--upstream").out
    assert "conn_up" not in here.run("connectors", "list").out


@pytest.mark.slow
def test_an_automation_that_is_active_upstream_is_warned_of(here: Deployment):
    warning = "VideoVector's own export automation of index 'idx_1' is active"
    here.server.platform.export_automations["idx_1"] = AUTOMATION
    assert warning in here.run("source", "check").out
    delivered = here.run("automations", "run", "idx_1", "team")
    assert delivered.code == 0
    assert f"Warning: {warning}" in delivered.err
    here.server.platform.export_automations["idx_1"] = {**AUTOMATION, "paused": True}
    assert warning not in "".join(here.run("source", "check").out)
    assert "Warning" not in here.run("automations", "run", "idx_1", "team").err


def test_an_archive_can_be_checked_too_and_has_nothing_upstream(tmp_path, here: Deployment):
    here.run("demo")
    elsewhere = Deployment(tmp_path / "demo", here.server)
    (elsewhere.folder / "vv_exports.yaml").unlink()
    elsewhere.run("demo")
    assert "prompt runs" in elsewhere.run("source", "check").out
    refused = elsewhere.run("connectors", "list", "--upstream")
    assert refused.code == 2
    assert "leave out --upstream" in refused.err


@pytest.mark.slow
def test_no_token_and_no_key_is_written_anywhere(here: Deployment):
    """Every answer holds fresh tokens, in known and unknown fields; errors say the key and tokens."""
    server = here.server
    for number, run_id in enumerate(server.platform.runs):
        row = next(rows for rows in server.platform.runs[run_id].segments.values() if rows)[0]
        row["processing_warning"] = f"could not fetch https://media.test/{number}?token={server.TOKEN_MARKER}w"
        row["marker"] = {"note": f"see https://media.test/?token={server.TOKEN_MARKER}m"}
    server.faults.append(Fault(FaultKind.UNKNOWN_FIELDS, "", times=None))
    assert here.run("runs", "sync", "idx_1", "--debug").code == 0
    assert here.run("automations", "run", "idx_1", "team", "--debug").code == 0
    for format_name in ("parquet", "jsonl", "csv", "json"):
        assert here.run("export", "index", "idx_1", "--format", format_name).code == 0
    assert here.run("source", "check", "--json").code == 0
    for kind in (FaultKind.UNAUTHORIZED_AND_SAYS_THE_KEY, FaultKind.REDIRECT, FaultKind.HTML_NOT_FOUND):
        server.platform.change_result("run_000")
        server.faults[:] = [Fault(kind, "/results", times=None)]
        assert here.run("automations", "run", "idx_1", "team", "--debug").code == 1
    server.platform.change_result("run_000")
    server.faults[:] = [
        Fault(FaultKind.UNKNOWN_FIELDS, "/results", times=9),
        Fault(FaultKind.SERVER_ERROR, "/results", times=2),
        Fault(FaultKind.FORBIDDEN, "/results", times=None),
    ]
    assert here.run("runs", "sync", "idx_1", "--debug").code == 1

    texts = {f"what was said, {number}": text.encode() for number, text in enumerate(here.said)}
    texts |= {str(path): data for path, data in everything_below(here.folder)}
    assert any("staging" in place for place in texts), "also what is staged"
    assert any(place.endswith(".db") for place in texts), "also Dagster's database"
    assert any(b"could not fetch https://media.test/0?***" in text for text in texts.values())
    assert sum(b"run_000" in text for text in texts.values()) > 10, "these are the texts that were meant"
    for secret in (server.TOKEN_MARKER, server.api_key):
        assert [place for place, text in texts.items() if secret.encode() in text] == []


def everything_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as it is, and what is packed in it."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()
            yield from unpacked(str(path.relative_to(folder)), path.read_bytes())
            if path.suffix == ".db":
                with sqlite3.connect(path) as database:  # reads what is in the write-ahead log too
                    yield f"{path} dumped.db", "\n".join(database.iterdump()).encode()
                database.close()


def unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield f"{name}/{member}", archive.read(member)
                yield from unpacked(f"{name}/{member}", archive.read(member))
    elif name.endswith(".parquet"):
        yield f"{name} rows", repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
    elif name.endswith(".zst"):
        yield f"{name} text", pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()


@pytest.mark.slow
def test_requests_are_counted_by_index_over_all_processes_and_told_as_metrics(here: Deployment):
    def told() -> dict[str, float]:
        text = here.run("metrics").out
        return {
            sample.labels["index"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "vv_exports_source_requests_total"
        }

    assert told() == {}
    assert here.spawn("automations", "run", "idx_1", "team").code == 0
    first = len(here.server.requests)
    assert told() == {"idx_1": first}
    assert here.spawn("runs", "list", "idx_1").code == 0
    assert here.spawn("connectors", "list", "--upstream").code == 0
    both = told()
    assert sum(both.values()) == len(here.server.requests) > first
    assert both[""] > 0
