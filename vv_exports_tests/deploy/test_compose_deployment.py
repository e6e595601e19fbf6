"""The deployment of ``deploy/compose``, with its commands, its instance and its variables, on a real Postgres and in a
real store. The engine is a stand-in that starts processes; of containers nothing is claimed here."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import s3fs

from vv_exports.demo import write_demo
from vv_exports_tests.deploy.folders import instruction
from vv_exports_tests.deploy.processes import Deployment, deployed
from vv_exports_tests.servers.postgres import postgres
from vv_exports_tests.servers.session import make_bucket

pytestmark = pytest.mark.slow

COLLECTION = "vv-exports/deliveries/exports/review-team"
_DELIVERED_SECONDS = 240


@pytest.fixture
def bucket(servers):
    """The store, with the bucket of the deployment, empty."""
    store = servers.seaweedfs
    client = s3fs.S3FileSystem(
        key=store.access_key, secret=store.secret_key, endpoint_url=store.endpoint_url, use_listings_cache=False
    )
    make_bucket(store, "vv-exports")
    yield client
    client.rm("vv-exports", recursive=True)


@contextmanager
def started(tmp_path, servers, *services: str) -> Iterator[Deployment]:
    write_demo(tmp_path)
    archive = tmp_path / ".vv_exports" / "archive"
    with (
        postgres(tmp_path / "postgres") as database,
        deployed(tmp_path / "deployed", archive, database, servers.seaweedfs, services) as deployment,
    ):
        yield deployment


def done(deployment: Deployment, *command: str) -> str:
    """Of a command that is carried out where the code server is, as `docker compose exec code` does."""
    ended = subprocess.run(command, env=deployment.environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_commands_beside_the_code_server_deliver_and_leave_nothing_on_the_disk(tmp_path, servers, bucket):
    with started(tmp_path, servers, "code") as deployment:
        assert "delivered 8 prompt runs" in done(deployment, "vv-exports", "automations", "run", "--all")
        (entry,) = bucket.glob(f"{COLLECTION}/_vv/log/*.json")
        assert len(json.loads(bucket.cat(entry))["prompt_runs"]) == 8
        assert bucket.find("vv-exports/storage")
        there = {path.name for path in deployment.folder.iterdir()}
        assert there == {"dagster.yaml", "vv_exports.yaml", "workspace.yaml"}
        asked = [str(deployment.code_port) if part == "4000" else part for part in instruction("HEALTHCHECK")]
        done(deployment, *asked)


def waited(what, seconds: float = _DELIVERED_SECONDS):
    """What it gives, as soon as it gives something."""
    stop = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < stop:
        time.sleep(0.5)
    assert found
    return found


@pytest.mark.skipif(
    "VV_EXPORTS_TESTS_DEPLOYMENTS" not in os.environ,
    reason="VV_EXPORTS_TESTS_DEPLOYMENTS=1 takes most of a minute for it",
)
def test_the_daemon_has_each_run_in_a_container_of_its_own(tmp_path, servers, bucket):
    with started(tmp_path, servers, "code", "daemon", "webserver") as deployment:
        waited(lambda: bucket.glob(f"{COLLECTION}/_vv/log/*.json"))
        containers = list(deployment.engine.containers.values())
        waited(lambda: all(one.state["Status"] == "exited" for one in containers))
        assert [one.state["ExitCode"] for one in containers] == [0, 0], "one reads, one delivers"
        for one in containers:
            printed = bucket.find(f"vv-exports/compute_logs/storage/{one.asked['Labels']['dagster/run_id']}")
            assert any(b"idx_archive" in bucket.cat(path) for path in printed)
            assert one.asked["Image"] == deployment.environment["DAGSTER_CURRENT_IMAGE"]
            assert one.asked["HostConfig"]["AutoRemove"]
            assert one.asked["Healthcheck"]["Test"] == ["NONE"]
        assert "complete" in done(deployment, "vv-exports", "status")
        done(deployment, "vv-exports", "reload", "--url", f"http://127.0.0.1:{deployment.web_port}")
        done(deployment, "dagster-daemon", "liveness-check")
