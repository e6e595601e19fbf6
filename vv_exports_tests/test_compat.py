"""The swap for the SDK's exports, beside the SDK that is installed: a version that adds or changes something is
noticed here."""

import asyncio
import copy
import inspect
import io
import json
import re
import textwrap
import zipfile
from importlib.metadata import metadata

import pytest
import videovector
from videovector.resources import AsyncExportsResource, ExportsResource

from vv_exports import errors
from vv_exports.client import VVExports, compat
from vv_exports.client.compat.errors import KeyReusedError, as_the_sdk_raises
from vv_exports.exports.artifacts import artifact_key
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.deployments import CONFIG, client_of, written_files

INDEX = "idx_123"
TEAM = {"destination_connector_id": "conn_export", "destination_subpath": "exports/team", "start": "beginning"}
BOTH = {**CONFIG["indexes"]["idx"]["automations"], "team": TEAM}
METHODS = [name for name in vars(ExportsResource) if not name.startswith("_")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swap")
    archive = folder / "archive"
    write_run(archive, index_id=INDEX, run_id="run_abc", executed_at="2026-10-01T00:00:00Z")
    write_run(archive, index_id=INDEX, run_id="run_def", executed_at="2026-10-02T00:00:00Z", segments=0)
    odd = [segment(1, metadata={"title": "Zürich\n\"'", "exact": 2**60 + 1, "people": None}), segment(2)]
    failed = [{"segment_id": "seg_9", "video_id": "vid_1", "failed_operations": ["transcription"]}]
    write_run(
        archive, index_id=INDEX, run_id="run_123", executed_at="2026-10-03T00:00:00Z", segments=odd, failures=failed
    )
    write_run(archive, index_id="idx_several", run_id="run_other")
    broken = write_run(archive, index_id="idx_broken", run_id="run_broken") / "segment_results.jsonl"
    broken.write_text("{")
    return folder


@pytest.fixture(scope="module")
def deployment(folder):
    indexes = {INDEX: {"automations": {"team": TEAM}}, "idx_several": {"automations": copy.deepcopy(BOTH)}}
    indexes["idx_several"]["automations"]["team"]["destination_subpath"] = "exports/several"
    return client_of(folder, {**CONFIG, "indexes": {**indexes, "idx_broken": {"automations": {}}}})


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    for name in ("API_KEY", "BEARER_TOKEN", "AUTH_MODE", "BASE_URL"):
        monkeypatch.delenv(f"VIDEO_VECTOR_{name}", raising=False)


@pytest.fixture(scope="module")
def client(deployment):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VIDEO_VECTOR_API_KEY", raising=False)
        with compat.VideoVector.of(deployment) as client:
            yield client


@pytest.fixture(scope="module")
def download(client):
    created = client.exports.create_index_export(INDEX)
    return client.exports.wait_for_completion(created.export_id)


@pytest.fixture(scope="module")
def delivered(client):
    created = client.exports.create_index_export(
        index_id=INDEX,
        prompt_run_ids=["run_abc", "run_def"],
        destination_connector_id="conn_export",
        destination_subpath="exports/editorial",
        idempotency_key="delivered",
    )
    return client.exports.wait_for_completion(created.export_id)


# What is the SDK's


def test_every_name_of_the_sdk_is_here_and_only_the_clients_are_others():
    others = {name for name in videovector.__all__ if getattr(compat, name) is not getattr(videovector, name)}
    assert others == {"VideoVector", "AsyncVideoVector"}
    assert all(issubclass(getattr(compat, name), getattr(videovector, name)) for name in others)
    assert compat.__all__ == videovector.__all__


@pytest.mark.parametrize("theirs", [videovector.VideoVector, videovector.AsyncVideoVector])
def test_a_client_takes_what_the_sdk_takes(theirs):
    assert inspect.signature(getattr(compat, theirs.__name__)) == inspect.signature(theirs)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_the_signature_and_the_kind_that_it_has_in_the_sdk(deployment, method):
    assert len(METHODS) == 8
    for client, theirs in (
        (compat.VideoVector.of(deployment), ExportsResource),
        (compat.AsyncVideoVector.of(deployment), AsyncExportsResource),
    ):
        ours = getattr(type(client.exports), method)
        assert inspect.signature(ours) == inspect.signature(getattr(theirs, method))
        for is_kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction):
            assert is_kind(ours) == is_kind(getattr(theirs, method))


def test_the_examples_of_the_sdks_readme_run(client, download, tmp_path, monkeypatch):
    """``export_123`` stands for an export there."""
    monkeypatch.chdir(tmp_path)
    readme = metadata("videovector").get_payload() or metadata("videovector")["Description"]
    found = [text for text in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "client.exports." in text]
    names = {"client": client}
    wait_and_download, mint = found
    exec(wait_and_download.replace("export_123", download.export_id), names)
    assert json.loads((tmp_path / "metadata.json").read_bytes())["index_id"] == INDEX
    with pytest.raises(videovector.ValidationError, match=r"no web server .* `client.exports.download`"):
        exec(mint, names)


def test_the_example_of_the_sdks_exports_runs(deployment, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = textwrap.dedent(ExportsResource.__doc__.partition("Example:\n")[2])
    exec(example, {"VideoVector": lambda api_key: compat.VideoVector.of(deployment, api_key=api_key)})
    assert json.loads((tmp_path / "metadata.json").read_bytes())["index_id"] == INDEX
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"File size: {(tmp_path / 'metadata.json').stat().st_size} bytes"
    assert re.fullmatch("exp_[0-9a-f]{32}: completed", printed[1])


def test_the_example_of_the_sdks_async_exports_runs(deployment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = textwrap.dedent(AsyncExportsResource.__doc__.partition("Example:\n")[2])
    names = {"AsyncVideoVector": lambda api_key: compat.AsyncVideoVector.of(deployment, api_key=api_key)}
    exec(f"async def example():\n{textwrap.indent(example, '    ')}", names)
    asyncio.run(names["example"]())
    assert json.loads((tmp_path / "metadata.json").read_bytes())["index_id"] == INDEX


# Exports


def test_an_export_has_every_field_that_the_sdk_knows(client, deployment, download, delivered, folder):
    ours = deployment.exports.retrieve(download.export_id)
    uri = str(folder / "storage" / artifact_key(download.export_id))
    assert download.model_dump() == {
        "export_id": ours.export_id,
        "user_id": None,
        "export_type": "index",
        "target_id": INDEX,
        "status": "completed",
        "created_at": ours.created_at,
        "gcs_uri": uri,
        "download_url": f"/api/v2/exports/{ours.export_id}/download",
        "file_size_bytes": client.exports.download(download.export_id, io.BytesIO()),
        "error_message": None,
        "export_params": {
            "prompt_run_ids": None,
            "result_scope": "all",
            "destination_connector_id": None,
            "destination_base_path": None,
            "destination_subpath": None,
        },
        "queue_status": "succeeded",
        "attempts": 1,
        "max_attempts": 1,
        "available_at": ours.created_at,
        "started_at": ours.started_at,
        "completed_at": ours.completed_at,
        "updated_at": ours.completed_at,
        "last_error": None,
        "destination_type": "download",
        "destination_connector_id": None,
        "destination_base_path": None,
        "destination_subpath": None,
        "destination_uri": None,
    }
    assert type(download) is videovector.Export
    assert ours.created_at <= ours.started_at <= ours.completed_at
    assert set(download.model_dump()) == set(videovector.Export.model_fields)
    uri = str(folder / "deliveries/exports/editorial" / delivered.export_id)
    assert delivered.model_dump() == download.model_dump() | {
        "export_id": delivered.export_id,
        "gcs_uri": uri,
        "download_url": None,
        "file_size_bytes": deployment.exports.retrieve(delivered.export_id).bytes,
        "export_params": {
            "prompt_run_ids": ["run_abc", "run_def"],
            "result_scope": "all",
            "destination_connector_id": "conn_export",
            "destination_base_path": "deliveries",
            "destination_subpath": "exports/editorial",
        },
        "destination_type": "connector",
        "destination_connector_id": "conn_export",
        "destination_base_path": "deliveries",
        "destination_subpath": "exports/editorial",
        "destination_uri": uri,
        **{name: getattr(delivered, name) for name in delivered.model_dump() if name.endswith("_at")},
    }


def test_a_connector_gets_json_files_in_a_folder_of_the_exports_own(client, delivered, folder):
    inside = [path for path in written_files(folder) if delivered.export_id in path and "/_vv/" not in path]
    assert inside
    assert {path.rpartition(".")[2] for path in inside if not path.endswith("/SHA256SUMS")} == {"json"}
    assert client.exports.download_url(delivered.export_id) is None
    with pytest.raises(videovector.ValidationError, match=r"was delivered to .*; it has no artifact to download"):
        client.exports.download(delivered.export_id, folder / "never.json")
    assert not (folder / "never.json").exists()


def test_a_download_is_one_json_document_of_all_rows_as_files_have_them(client, download, folder):
    client.exports.download(download.export_id, str(folder / "all.json"))
    document = json.loads((folder / "all.json").read_bytes())
    with zipfile.ZipFile(folder / "storage" / artifact_key(download.export_id)) as artifact:
        files = [json.loads(artifact.read(name)) for name in sorted(artifact.namelist()) if "/segments/" in name]
    assert document.pop("segments") == [row for file in files for row in file]
    (failure,) = document.pop("failures")
    assert failure["segment_id"] == "seg_9"
    assert document == {
        "export_id": download.export_id,
        "export_type": "index",
        "target_id": INDEX,
        "index_id": INDEX,
        "prompt_run_ids": ["run_abc", "run_def", "run_123"],
        "videos": [],
        "quarantine": [],
    }
    assert {row["prompt_run_id"] for file in files for row in file} == {"run_abc", "run_123"}
    assert [row["metadata"]["exact"] for file in files for row in file if "exact" in row["metadata"]] == [2**60 + 1]


@pytest.mark.parametrize("chunk_size", [1, 7, 1000, 1 << 20])
def test_chunks_are_of_the_size_that_was_asked_for_and_are_the_file(client, download, chunk_size):
    taken = io.BytesIO()
    written = client.exports.download(download.export_id, taken)
    chunks = list(client.exports.iter_download(download.export_id, chunk_size=chunk_size))
    assert b"".join(chunks) == taken.getvalue()
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_size}
    assert 0 < len(chunks[-1]) <= chunk_size
    assert written == download.file_size_bytes == len(taken.getvalue())


def test_more_bytes_than_are_allowed_leave_no_file(client, download, folder):
    before = sorted(folder.iterdir())
    size = download.file_size_bytes
    with pytest.raises(videovector.VideoVectorError, match="give a greater one") as told:
        client.exports.download(download.export_id, folder / "large.json", max_bytes=size - 1)
    assert told.value.error_code == "download_size_limit_exceeded"
    assert told.value.details == {"content_length": size, "max_bytes": size - 1}
    with pytest.raises(ValueError, match="chunk_size must be greater than zero"):
        client.exports.download(download.export_id, folder / "large.json", chunk_size=0)
    assert sorted(folder.iterdir()) == before
    assert client.exports.download(download.export_id, io.BytesIO(), max_bytes=size) == size


def test_a_download_that_was_begun_keeps_the_artifact_until_it_is_given_up(client, deployment, download):
    chunks = client.exports.iter_download(download.export_id, chunk_size=10)
    next(chunks)
    assert deployment.exports.delete(download.export_id, dry_run=True).is_being_read
    chunks.close()
    assert not deployment.exports.delete(download.export_id, dry_run=True).is_being_read


def test_an_export_in_another_format_is_downloaded_as_it_is(client, deployment, folder):
    export = deployment.exports.create_index_export(INDEX, format="csv")
    assert client.exports.download(export.export_id, folder / "csv.zip") == export.bytes
    assert zipfile.is_zipfile(folder / "csv.zip")
    there = client.exports.retrieve(export.export_id)
    assert there.file_size_bytes == export.bytes
    deployment.exports.delete(export.export_id)
    there = client.exports.retrieve(export.export_id)
    assert (there.status, there.download_url, there.file_size_bytes) == ("completed", None, None)
    with pytest.raises(videovector.ConflictError, match="its artifact was deleted"):
        client.exports.download(export.export_id, folder / "never.zip")
    assert client.exports.download_url(export.export_id) is None


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_artifact_leaves_no_file_and_breaks_no_list(client, folder, damage):
    created = client.exports.create_prompt_run_export("run_abc", idempotency_key="damaged")
    artifact = folder / "storage" / artifact_key(created.export_id)
    whole = artifact.read_bytes()
    with zipfile.ZipFile(artifact) as archive:
        (rows,) = [one for one in archive.infolist() if "/segments/" in one.filename]
    at = rows.header_offset + 30 + len(rows.filename) + rows.compress_size // 2
    if damage == "gone":
        artifact.unlink()
    else:
        artifact.write_bytes(whole[:-30] if damage == "cut" else whole[:at] + b"damaged" + whole[at + 7 :])
    try:
        with pytest.raises(videovector.ExternalServiceError):
            client.exports.download(created.export_id, folder / "damaged.json")
        assert not list(folder.glob("*damaged*"))
        there = next(one for one in client.exports.list() if one.export_id == created.export_id)
        assert (there.download_url is None) == (damage != "altered")
    finally:
        artifact.parent.mkdir(exist_ok=True)
        artifact.write_bytes(whole)


def test_the_same_key_gives_the_same_export_and_none_for_another_request(client, delivered):
    request = {
        "index_id": INDEX,
        "prompt_run_ids": ["run_abc", "run_def"],
        "destination_connector_id": "conn_export",
        "destination_subpath": "exports/editorial",
    }
    again = client.exports.create_index_export(**request, idempotency_key=" delivered ")
    assert (again.export_id, again.status) == (delivered.export_id, "completed")
    assert type(again) is videovector.ExportCreateResult
    for theirs in (videovector.IdempotencyError, videovector.ConflictError):
        with pytest.raises(theirs, match="'delivered' was used before, for another request") as told:
            client.exports.create_index_export(INDEX, idempotency_key="delivered")
        assert (told.value.status_code, told.value.error_code) == (409, "idempotency_request_mismatch")


def test_an_export_that_fails_says_so_as_the_sdk_does(client):
    created = client.exports.create_prompt_run_export(run_id="run_broken", idempotency_key="   ")
    assert created.status == "failed"
    there = client.exports.retrieve(created.export_id)
    assert (there.status, there.queue_status, there.download_url) == ("failed", "dead_letter", None)
    assert "segment_results.jsonl" in there.error_message
    with pytest.raises(videovector.ProcessingError, match=r"Export failed: .*segment_results.jsonl") as told:
        client.exports.wait_for_completion(created.export_id)
    assert told.value.details == {"export_id": created.export_id}
    with pytest.raises(videovector.ConflictError, match="it is failed"):
        client.exports.download(created.export_id, io.BytesIO())


def test_a_list_has_the_newest_first_and_as_many_as_were_asked_for(client, download, delivered):
    everything = client.exports.list(limit=100)
    assert [one.created_at for one in everything] == sorted((one.created_at for one in everything), reverse=True)
    assert {download.export_id, delivered.export_id} <= {one.export_id for one in everything}
    assert client.exports.list(limit=2) == everything[:2]
    for wrong in (0, -1, "5", True):
        with pytest.raises(videovector.ValidationError, match="limit"):
            client.exports.list(limit=wrong)


@pytest.mark.parametrize(
    ("request_", "theirs", "said"),
    [
        ({"index_id": "idx_none"}, videovector.NotFoundError, "no index 'idx_none'"),
        ({"prompt_run_ids": []}, videovector.ValidationError, "prompt_run_ids is empty"),
        ({"prompt_run_ids": ["run_none"]}, videovector.ValidationError, "'run_none' does not exist"),
        ({"prompt_run_ids": "run_abc"}, videovector.ValidationError, "must be a list of ids"),
        ({"prompt_run_ids": ["run_abc", "run_abc"]}, videovector.ValidationError, "named twice"),
        ({"destination_connector_id": "none"}, videovector.NotFoundError, "connector 'none' does not exist"),
        ({"destination_connector_id": "conn_import"}, videovector.ValidationError, "not 'export'"),
        ({"destination_subpath": "x"}, videovector.ValidationError, "without a connector"),
        (
            {"destination_connector_id": "conn_export", "destination_subpath": "../x"},
            videovector.ValidationError,
            r"\.\./x",
        ),
        (
            {"destination_connector_id": "conn_export", "destination_subpath": "exports/team"},
            videovector.ValidationError,
            "belongs to the automation",
        ),
    ],
)
def test_a_request_that_is_wrong_is_refused_as_the_sdk_refuses_it(client, request_, theirs, said):
    before = len(client.exports.list(limit=100))
    with pytest.raises(theirs, match=said) as told:
        client.exports.create_index_export(**({"index_id": INDEX} | request_))
    assert told.value.status_code in {404, 422}
    assert len(client.exports.list(limit=100)) == before


def test_what_does_not_exist_is_not_found(client, download):
    for export_id in ("exp_none", download.export_id[:-1], f"{download.export_id}/x", "../exp", ""):
        for call in ("retrieve", "download_url", "wait_for_completion"):
            with pytest.raises(videovector.NotFoundError, match="does not exist"):
                getattr(client.exports, call)(export_id)
        with pytest.raises(videovector.NotFoundError, match="does not exist"):
            client.exports.download(export_id, io.BytesIO())
    with pytest.raises(videovector.NotFoundError, match="'run_none' does not exist"):
        client.exports.create_prompt_run_export("run_none")
    with pytest.raises(videovector.NotFoundError, match="has no index ''"):
        client.exports.create_index_export("")


def test_each_error_of_ours_is_one_of_the_sdks_and_keeps_its_message():
    ours = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.VVExportsError)]
    assert len(ours) > 20
    for one in ours:
        error = one.__new__(one)
        Exception.__init__(error, "what was tried")
        with pytest.raises(videovector.VideoVectorError, match="what was tried") as told, as_the_sdk_raises():
            raise error
        assert told.value.__cause__ is error
        assert type(told.value) in {*(getattr(videovector, name) for name in videovector.__all__), KeyReusedError}
        assert told.value.status_code >= (400 if issubclass(one, errors.RequestError) else 429)


# Requests by hand, for which the SDK has no methods


def test_the_export_automation_of_an_index_is_read_paused_and_resumed(client, deployment):
    path = f"/indexes/{INDEX}/automations/export"
    there = {"index_id": INDEX, "enabled": True, "paused": False} | TEAM
    del there["start"]
    assert client._http.get(path) == there
    assert client._http.post(f"{path}/pause", json={}) == there | {"paused": True}
    assert deployment.automations.retrieve(INDEX, "team").paused
    assert client._http.post(f"{path}/resume") == there
    body = {name: value for name, value in there.items() if name != "index_id"}
    assert client._http.put(path, json=body | {"paused": True}) == there | {"paused": True}
    assert client._http.put(path, json=body, idempotency_key="k") == there
    with pytest.raises(videovector.ValidationError, match="cron: not known"):
        client._http.put(path, json=body | {"cron": "daily"})
    with pytest.raises(videovector.NotFoundError, match="has no export automation"):
        client._http.get("/indexes/idx_broken/automations/export")
    with pytest.raises(videovector.ConflictError, match=r"3 export automations \(team, held, off\)"):
        client._http.get("/indexes/idx_several/automations/export")


def test_an_export_automation_that_is_put_stands_in_the_configuration(tmp_path):
    write_run(tmp_path / "archive")
    deployment = client_of(tmp_path, {**CONFIG, "indexes": {"idx": {"automations": {}}}})
    path, wanted = "/indexes/idx/automations/export", {"destination_connector_id": "conn_export", "paused": True}
    with compat.VideoVector.of(deployment) as client:
        made = client._http.put(path, json=wanted | {"destination_subpath": "a"})
        assert made == {"index_id": "idx", "enabled": True, "destination_subpath": "a"} | wanted
        assert client._http.put(path, json={"destination_subpath": "b"}) == made | {"destination_subpath": "b"}
        assert client._http.get(path) == made | {"destination_subpath": "b"}
        with pytest.raises(videovector.ValidationError, match="conn_import"):
            client._http.put(path, json={"destination_connector_id": "conn_import"})
    written = VVExports(tmp_path / "vv_exports.yaml").pipeline.config.index("idx").automations["export"]
    assert (written.destination_subpath, written.paused) == ("b", True)


def test_a_choice_that_is_not_supported_is_refused_and_not_ignored(client):
    with pytest.raises(videovector.ValidationError, match="result_scope 'matches' is not supported"):
        client._http.post(f"/exports/index/{INDEX}", json={"result_scope": "matches"})
    with pytest.raises(videovector.ValidationError, match="format: not known"):
        client._http.post(f"/exports/index/{INDEX}", json={"format": "csv"})
    with pytest.raises(videovector.ValidationError, match="goes in params or json"):
        client._http.get("/exports?limit=5")
    with pytest.raises(videovector.ValidationError, match="POST /exports is not known"):
        client._http.post("exports", json={})
    assert client._http.get("exports", params={"limit": 1}) == client._http.get("/exports")[:1]


# The rest of the client


def test_everything_else_is_asked_of_the_platform(deployment):
    nobody_there = {"base_url": "http://127.0.0.1:9/api/v2", "max_retries": 0}
    with compat.VideoVector.of(deployment, "key", **nobody_there) as client:
        assert isinstance(client, videovector.VideoVector)
        for call in (client.indexes.list, lambda: client._http.get("/indexes/i/automations/import")):
            with pytest.raises(videovector.ConnectionError):
                call()
        assert client.exports.list(limit=1)


def test_without_credentials_only_exports_work_and_the_rest_says_why(deployment):
    with compat.VideoVector.of(deployment, api_key=None) as client:
        assert set(vars(videovector.VideoVector(api_key="key"))) - set(vars(client)) <= {"_config"}
        for call in (client.indexes.list, client.rate_limits.get_status, client.authenticate):
            with pytest.raises(videovector.AuthenticationError, match=r"VIDEO_VECTOR_API_KEY\. Exports need none"):
                call()
        copy.copy(client._http)


def test_credentials_that_contradict_each_other_are_refused_as_by_the_sdk(deployment, monkeypatch):
    with pytest.raises(ValueError, match="only one authentication method"):
        compat.VideoVector.of(deployment, api_key="key", bearer_token="token")
    monkeypatch.setenv("VIDEO_VECTOR_AUTH_MODE", "neither")
    with pytest.raises(ValueError, match="VIDEO_VECTOR_AUTH_MODE"):
        compat.VideoVector.of(deployment)


def test_a_client_opens_the_deployment_that_the_command_line_finds(deployment, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VV_EXPORTS_CONFIG", str(folder / "vv_exports.yaml"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with compat.VideoVector() as client:
        assert {one.export_id for one in client.exports.list(limit=100)} == {
            one.export_id for one in deployment.exports.list()
        }
    monkeypatch.setenv("VV_EXPORTS_CONFIG", str(tmp_path / "none.yaml"))
    with pytest.raises(videovector.ValidationError, match=r"none\.yaml"):
        compat.VideoVector()


# Async


def test_the_async_client_makes_exports_at_once_and_downloads_them(deployment, folder):
    async def program():
        async with compat.AsyncVideoVector.of(deployment) as client:
            created = await asyncio.gather(
                client.exports.create_prompt_run_export("run_abc"),
                client.exports.create_prompt_run_export("run_123", destination_connector_id="conn_export"),
            )
            first, second = [await client.exports.wait_for_completion(one.export_id) for one in created]
            written = await client.exports.download(first.export_id, folder / "async.json", chunk_size=100)
            chunks = [chunk async for chunk in client.exports.iter_download(first.export_id, chunk_size=100)]
            assert [one.export_id for one in await client.exports.list(limit=1)] == [
                max(first, second, key=lambda one: (one.created_at, one.export_id)).export_id
            ]
            assert await client.exports.download_url(second.export_id) is None
            assert (await client._http.get(f"/indexes/{INDEX}/automations/export"))["enabled"]
            with pytest.raises(videovector.ValidationError, match="empty"):
                await client.exports.create_index_export(INDEX, prompt_run_ids=[])
            with pytest.raises(videovector.AuthenticationError):
                await client.indexes.list()
            return first, written, chunks

    first, written, chunks = asyncio.run(program())
    assert written == first.file_size_bytes == (folder / "async.json").stat().st_size
    assert b"".join(chunks) == (folder / "async.json").read_bytes()
    assert json.loads(b"".join(chunks))["prompt_run_ids"] == ["run_abc"]


def test_an_async_download_that_is_stopped_leaves_no_file_and_nobody_waiting(deployment, download, folder):
    async def program():
        async with compat.AsyncVideoVector.of(deployment) as client:
            target = folder / "stopped.json"
            task = asyncio.create_task(client.exports.download(download.export_id, target, chunk_size=1))
            while not list(folder.glob(".stopped.json.*")):  # noqa: ASYNC110 - the SDK tells nobody when it has begun
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(program())
    assert not list(folder.glob("*stopped*"))
    assert not deployment.exports.delete(download.export_id, dry_run=True).is_being_read
