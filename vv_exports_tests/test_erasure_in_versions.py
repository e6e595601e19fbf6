"""A bucket that keeps versions has what was deleted: an erasure removes that, or names the bucket."""

import io
import uuid

import pyarrow.parquet as pq
import pytest

from vv_exports.connectors.gcs import GcsConnector
from vv_exports.erasure import Cleaned, erase
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, reconciled, with_parts
from vv_exports_tests.fakes.faulty_connector import FaultyConnector
from vv_exports_tests.stores import s3_connector


@pytest.fixture(params=["moto", "seaweedfs"])
def server(servers, request):
    return getattr(servers, request.param)


@pytest.fixture
def bucket(server):
    """A bucket that keeps versions."""
    import boto3  # noqa: PLC0415

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    name = f"versions-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return client, name


@pytest.fixture
def deployed(bucket, server, tmp_path):
    """A collection, and the pipeline's storage, in that bucket; each run was delivered twice."""
    client = client_of(tmp_path, {**CONFIG, "source": {"kind": "local_archive", "path": str(tmp_path / "archive")}})
    _, name = bucket
    connector = s3_connector(server, "out", bucket=name)
    with_parts(
        client.pipeline,
        storage=s3_connector(server, "state", bucket=name),
        connectors={"conn_export": connector, "conn_import": connector},
    )
    for texts in ("first", "then"):
        for run_id in ("run_1", "run_2"):
            media = ("vid_1", "vid_2") if run_id == "run_1" else ("vid_2", "vid_2")
            rows = [segment(n, video=one, metadata_text=f"{texts} of {one}") for n, one in enumerate(media)]
            write_run(tmp_path / "archive", run_id=run_id, segments=rows)
        pipeline = client.pipeline
        pipeline.automations.begin("idx", pipeline.indexes.listing("idx"), pipeline.now())
        reconciled(client)
    return client


def versions_that_hold(bucket, text):
    client, name = bucket
    found = set()
    for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
        for one in page.get("Versions", ()):
            data = client.get_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])["Body"].read()
            if one["Key"].endswith(".parquet"):
                data += str(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
            if text.encode() in data:
                found.add((one["Key"].split("/")[0], one["IsLatest"]))
    return found


def erased(client, *, dry_run=False, **what):
    ((kind, id_),) = what.items()
    return erase(client.pipeline, kind, id_, reason="asked for", history=lambda *_: Cleaned(), dry_run=dry_run)


def test_no_version_of_any_object_holds_an_erased_medium(deployed, bucket):
    there = {("out", True), ("out", False), ("state", True)}
    assert versions_that_hold(bucket, "of vid_1") == there
    planned = erased(deployed, video="vid_1", dry_run=True)
    assert versions_that_hold(bucket, "of vid_1") == there
    assert sum("?versionId=" in path for one in planned.places for path in one.removed) >= 1
    done = erased(deployed, video="vid_1")
    assert done.unreached == ()
    assert versions_that_hold(bucket, "of vid_1") == set()
    assert ("out", False) in versions_that_hold(bucket, "first of vid_2"), "other runs' versions are nobody's business"


def test_no_version_of_any_object_holds_an_erased_run(deployed, bucket):
    assert erased(deployed, run="run_2").unreached == ()
    assert versions_that_hold(bucket, "run_2") <= {("out", True), ("out", False)}, "ids, in logs and checkpoints"
    assert versions_that_hold(bucket, "then of vid_2") == {("out", True), ("state", True)}, "of the other run"


def test_a_store_that_cannot_be_asked_for_versions_is_named(tmp_path):
    client = client_of(tmp_path)
    write_run(tmp_path / "archive", run_id="run_1", segments=[segment(0, video="vid_1")])
    pipeline = client.pipeline
    pipeline.automations.begin("idx", pipeline.indexes.listing("idx"), pipeline.now())
    reconciled(client)

    class Unasked(FaultyConnector):
        def earlier(self, prefix):
            return GcsConnector("conn", "bucket", anonymous=True).earlier(prefix)

    good = pipeline.connectors["conn_export"]
    with_parts(pipeline, connectors={"conn_export": Unasked(good, {}), "conn_import": good})
    done = erased(client, video="vid_1")
    assert done.unreached == ()
    assert done.out_of_reach[0].startswith("earlier versions of objects, and soft-deleted ones, in ")
