"""Stores that answer otherwise than the providers' own: between a connector and a real server, some answers differ."""

import hashlib
import io
import itertools
import json
import logging
import os
import random
import re
import traceback
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import stamina
from azure.storage.blob import ContentSettings
from fsspec.asyn import sync

from vv_exports.connectors import object_store
from vv_exports.connectors.azure import AzureConnector
from vv_exports.connectors.check import check_connector
from vv_exports.connectors.gcs import GcsConnector
from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.ownership import claim
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import destinations
from vv_exports.errors import ForbiddenError, RequestError, TransientError, VVExportsError
from vv_exports_tests.fakes.tcp_proxy import TcpProxy
from vv_exports_tests.servers.gcs import gcs
from vv_exports_tests.stores import s3_connector

ALWAYS = float("inf")
MEBIBYTE = 2**20
BEGINNING = r"^POST .*\?uploads"
A_PART = "^PUT .*partNumber="
COMPLETION = r"^POST .*\?uploadId="
DELETIONS = r"^POST .*\?delete"
LISTING = r"^GET .*list-type=2"
UPLOADS = r"^GET .*\?uploads"


def refusal(code, message="said the store"):
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.fixture(scope="module")
def server(servers):
    return servers.seaweedfs


@pytest.fixture(scope="module")
def running_proxy(server):
    with TcpProxy(server.endpoint_url) as one:
        yield one


@pytest.fixture(scope="module")
def clients(server, running_proxy):
    """One client of the store itself and one that goes through the proxy: making one takes longer than most tests."""
    return s3_connector(server), s3_connector(replace(server, endpoint_url=running_proxy.url))


@pytest.fixture
def proxy(running_proxy):
    running_proxy.clear()
    return running_proxy


@pytest.fixture
def base():
    return uuid.uuid4().hex


def with_client_of(other, base, *, decides=True):
    made = s3_connector(SimpleNamespace(endpoint_url=other.endpoint_url, access_key="x", secret_key="x"), base)
    made._file_systems[os.getpid()] = other.file_system()
    made._refuses_taken_names = True if decides else None
    return made


@pytest.fixture
def direct(clients, base):
    return with_client_of(clients[0], base)


@pytest.fixture
def connector(clients, proxy, base):
    return with_client_of(clients[1], base)


@pytest.fixture(autouse=True)
def _no_waits():
    with stamina.set_testing(True, attempts=object_store._ATTEMPTS, cap=True):
        yield


@pytest.fixture
def parts_of_little(monkeypatch):
    """Also a small file is uploaded in parts: one."""
    monkeypatch.setattr(object_store, "WHOLE_BYTES", 1000)


def file_of(folder, size=100_000, seed=0):
    path = folder / f"{size}-{seed}"
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


# Uploads in parts


@pytest.mark.usefixtures("parts_of_little")
def test_an_object_of_other_bytes_and_the_same_size_is_no_completed_upload(connector, direct, proxy, tmp_path):
    path, theirs = file_of(tmp_path), file_of(tmp_path, seed=1).read_bytes()
    assert direct.create("a", theirs)
    proxy.fault("busy", COMPLETION, times=ALWAYS, answer=refusal("NoSuchUpload"), status="404 Not Found")
    with pytest.raises(TransientError, match=rf"^conn: could not write {connector.uri('a')}: NoSuchUpload: .*else"):
        connector.put(path, "a")
    assert direct.read("a") == theirs, "it is not ours to replace"
    assert direct.unfinished("") == []


@pytest.mark.usefixtures("parts_of_little")
def test_an_object_that_differs_in_its_last_byte_is_no_completed_upload(connector, direct, proxy, tmp_path):
    path = file_of(tmp_path, 9 * MEBIBYTE)
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    direct.put(other, "a")
    proxy.fault("busy", COMPLETION, times=ALWAYS, answer=refusal("NoSuchUpload"), status="404 Not Found")
    with pytest.raises(TransientError, match="NoSuchUpload"):
        connector.put(path, "a")
    direct.put(path, "a")
    connector.put(path, "a")  # an attempt whose answer was lost has completed it


@pytest.mark.usefixtures("parts_of_little")
@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "NoSuchUpload"])
def test_what_the_store_lost_of_an_upload_is_uploaded_again(connector, direct, proxy, tmp_path, code):
    path = file_of(tmp_path)
    proxy.fault("busy", COMPLETION, answer=refusal(code), status="400 Bad Request")
    connector.put(path, "a")
    assert direct.read("a") == path.read_bytes()
    assert direct.unfinished("") == []
    assert len([line for line in proxy.requests if re.search(BEGINNING, line)]) == 2


@pytest.mark.usefixtures("parts_of_little")
def test_an_upload_that_the_store_forgets_after_a_part_is_uploaded_again(connector, direct, proxy, tmp_path):
    path = file_of(tmp_path)
    proxy.fault("busy", A_PART, answer=refusal("NoSuchUpload"), status="404 Not Found")
    connector.put(path, "a")
    assert direct.read("a") == path.read_bytes()
    assert direct.unfinished("") == []


@pytest.mark.usefixtures("parts_of_little")
@pytest.mark.parametrize("on", [A_PART, COMPLETION])
@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "NoSuchUpload"])
def test_a_store_that_loses_every_upload_may_recover(  # noqa: PLR0917 - fixtures
    connector, direct, proxy, tmp_path, on, code
):
    lost = proxy.fault("busy", on, times=ALWAYS, answer=refusal(code), status="400 Bad Request")
    with pytest.raises(TransientError, match=rf"could not write .*/a: {code}: said the store\. .* try again later"):
        connector.put(file_of(tmp_path), "a")
    assert lost.hit.is_set()
    assert len(proxy.struck) == object_store._UPLOADS
    assert direct.files("") == []
    assert direct.unfinished("") == []


@pytest.mark.usefixtures("parts_of_little")
@pytest.mark.parametrize("code", ["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"])
def test_a_part_that_arrives_damaged_is_sent_again(connector, direct, proxy, tmp_path, code):
    path = file_of(tmp_path)
    proxy.fault("busy", A_PART, times=2, answer=refusal(code), status="400 Bad Request")
    connector.put(path, "a")
    assert direct.read("a") == path.read_bytes()


def test_a_store_that_sends_all_where_a_range_is_asked_for_is_read_right(connector, direct, proxy):
    assert direct.create("a", b"0123456789")
    proxy.fault("busy", "^GET .*/a", times=ALWAYS, status='200 OK\r\nETag: "x"', answer=b"0123456789")
    assert connector.read_range("a", 3, 5) == (b"34", 10)


# Deleting


def test_a_store_that_demands_content_md5_deletes_many_in_a_request(connector, direct, proxy):
    for name in "abc":
        direct.create(name, b"x")
    proxy.fault(
        *("busy", DELETIONS),
        times=ALWAYS,
        without="content-md5",
        answer=refusal("MissingContentMD5"),
        status="400 Bad Request",
    )
    connector.delete(["a", "b", "c", "gone"])
    assert direct.files("") == []
    assert proxy.struck == []
    assert len(proxy.requests) == 1


REFUSALS = [
    *(("MissingContentMD5", "400 Bad Request"), ("InvalidRequest", "400 Bad Request"), ("MalformedXML", "400 Bad")),
    *(("NotImplemented", "501 Not Implemented"), ("MethodNotAllowed", "405 Method Not Allowed"), ("", "501 No")),
    *(("XAmzContentChecksumMismatch", "400 Bad Request"), ("BadDigest", "400 Bad Request"), ("", "404 Not Found")),
]


@pytest.mark.parametrize(("code", "status"), REFUSALS)
def test_a_store_that_refuses_to_delete_many_at_once_is_asked_for_one_by_one(connector, direct, proxy, code, status):
    for name in "abc":
        direct.create(name, b"x")
    proxy.fault("busy", DELETIONS, times=ALWAYS, answer=refusal(code) if code else b"", status=status)
    connector.delete(["a", "b", "gone"])
    assert [one.key for one in direct.files("")] == ["c"]
    asked = len(proxy.struck)
    connector.delete(["c"])
    assert direct.files("") == []
    assert len(proxy.struck) == asked, "it is not asked for many again"


def test_credentials_that_may_not_delete_are_not_asked_to_one_by_one(connector, direct, proxy):
    direct.create("a", b"x")
    proxy.fault("busy", DELETIONS, times=ALWAYS, answer=refusal("AccessDenied"), status="403 Forbidden")
    with pytest.raises(ForbiddenError, match="could not delete"):
        connector.delete(["a"])
    assert len(proxy.struck) == 1
    assert proxy.requests == []


@pytest.mark.parametrize("answer", [b"<html><body>log in</body></html>", b"<DeleteResult/>"])
def test_a_deletion_that_names_nothing_as_deleted_is_no_success(connector, proxy, answer):
    proxy.fault("busy", DELETIONS, answer=answer, status="200 OK")
    with pytest.raises(TransientError, match="what answers is not the store: its answer has no Deleted"):
        connector.delete(["a"])


# Trials


@pytest.fixture(
    params=[("501 Not Implemented", "NotImplemented"), ("403 Forbidden", "AccessDenied"), ("500 No", "Any")]
)
def nothing_is_deleted(request, proxy):
    status, code = request.param
    proxy.fault("busy", f"{DELETIONS}|^DELETE", times=ALWAYS, answer=refusal(code), status=status)
    return code


@pytest.mark.usefixtures("nothing_is_deleted")
def test_a_trial_that_cannot_be_cleaned_up_decides_all_the_same_and_trials_do_not_pile_up(
    clients, direct, proxy, base, caplog
):
    for _ in range(11):  # as many processes, each of which has nowhere to remember it
        assert with_client_of(clients[1], base, decides=False).decides_among_writers()
    left = [one.key for one in direct.files(".vv_exports_trial")]
    assert len(left) == 8
    assert "taken-name stays: conn: could not delete" in caplog.text
    proxy.heal()
    direct.delete(left)


@pytest.mark.usefixtures("nothing_is_deleted")
def test_a_trial_that_cannot_be_cleaned_up_is_remembered(clients, direct, base, tmp_path):
    for _ in range(3):
        connector = with_client_of(clients[1], base, decides=False)
        connector.remember_in(LocalConnector("storage", tmp_path))
        assert connector.decides_among_writers()
    assert len(direct.files(".vv_exports_trial")) == 1


def test_a_store_that_refuses_every_name_is_not_taken_for_one_that_decides(clients, proxy, base):
    proxy.fault("busy", "^PUT", times=ALWAYS, answer=refusal("PreconditionFailed"), status="412 Precondition Failed")
    with pytest.raises(TransientError, match="could not be created, though there is no such object"):
        with_client_of(clients[1], base, decides=False).decides_among_writers()


def test_a_store_that_cannot_delete_passes_the_check_with_a_warning(connector, nothing_is_deleted):
    found = {one.step: one for one in check_connector(connector)}
    if nothing_is_deleted == "Any":
        assert list(found)[-1] == "delete", "it may pass, and then it is tried again"
        return
    assert {step for step, one in found.items() if one.outcome == "failed"} == set()
    assert found["delete"].outcome == "warning"
    assert nothing_is_deleted in found["delete"].detail
    assert found["second create"].outcome == "ok"


# Listings


def page(root, *entries, **fields):
    said = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f"<{root}><Name>bucket</Name>{said}{''.join(entries)}</{root}>".encode()


def objects(*entries, **fields):
    return page("ListBucketResult", *entries, **fields)


def uploads(*entries, **fields):
    return page("ListMultipartUploadsResult", *entries, **fields)


def entry(key, **fields):
    given = {"Key": key, "Size": 1, "LastModified": "2026-01-01T00:00:00.000Z", **fields}
    said = "".join(f"<{name}>{value}</{name}>" for name, value in given.items() if value is not None)
    return f"<Contents>{said}</Contents>"


def begun(**fields):
    given = {"Key": "a", "UploadId": "u", "Initiated": "2026-01-01T00:00:00.000Z", **fields}
    said = "".join(f"<{name}>{value}</{name}>" for name, value in given.items() if value is not None)
    return f"<Upload>{said}</Upload>"


def in_turn(*answers):
    left = itertools.cycle(answers)
    return lambda head: next(left)


def numbered(make):
    """Another answer each time."""
    count = itertools.count()
    return lambda head: make(next(count))


MORE = {"IsTruncated": "true"}
AGAIN = "a page of the listing that we have seen"
NO_TOKEN = "it says that there is more to list, and gives no "
UNREADABLE = "the store's answer makes no sense: reading it failed with "

ODD_LISTINGS = {
    "no token": (objects(entry("a"), **MORE), f"{NO_TOKEN}NextContinuationToken"),
    "an empty token": (objects(entry("a"), **MORE, NextContinuationToken=""), f"{NO_TOKEN}NextContinuationToken"),
    "one token for ever": (numbered(lambda n: objects(entry(f"a{n}"), **MORE, NextContinuationToken="t")), AGAIN),
    "two tokens for ever": (
        numbered(lambda n: objects(entry(f"a{n}"), **MORE, NextContinuationToken=f"t{n % 2}")), AGAIN,
    ),
    "one page for ever": (
        numbered(lambda n: objects(entry("a"), **MORE, NextContinuationToken=f"t{n}")), "what it has listed before",
    ),
    "no size": (objects(entry("a", Size=None), IsTruncated="false"), "its answer has no Size"),
    "no key": (objects(entry("a", Key=None), IsTruncated="false"), "its answer has no Key"),
    "a size in words": (objects(entry("a", Size="much"), IsTruncated="false"), f"{UNREADABLE}ValueError"),
    "a time in words": (objects(entry("a", LastModified="now"), IsTruncated="false"), "makes no sense|not the store"),
    "no XML": (b"hello", "500: "),
    "XML of another kind": (b"<Other><a/></Other>", "its answer has no IsTruncated"),
    "nothing": (b"", "its answer has no IsTruncated"),
}  # fmt: skip
ODD_UPLOADS = {
    "no marker": (uploads(begun(), **MORE), f"{NO_TOKEN}NextKeyMarker"),
    "one marker for ever": (uploads(begun(), **MORE, NextKeyMarker="a", NextUploadIdMarker="u"), AGAIN),
    "one key for ever": (uploads(begun(), **MORE, NextKeyMarker="a"), AGAIN),
    "no time": (uploads(begun(Initiated=None), IsTruncated="false"), "its answer has no Initiated"),
    "a time in words": (uploads(begun(Initiated="now"), IsTruncated="false"), "makes no sense|not the store"),
    "no id": (uploads(begun(UploadId=None), IsTruncated="false"), "its answer has no UploadId"),
    "XML of another kind": (b"<Other><a/></Other>", "its answer has no IsTruncated"),
    "no XML": (b"hello", "500: "),
}


@pytest.mark.parametrize("case", ODD_LISTINGS)
def test_a_listing_that_makes_no_sense_is_told_and_ends(connector, proxy, case):
    answer, told = ODD_LISTINGS[case]
    proxy.fault("busy", LISTING, times=ALWAYS, answer=answer, status="200 OK")
    with pytest.raises(TransientError, match=rf"^conn: could not list .*({told})"):
        connector.files("")
    assert len(proxy.struck) <= object_store._ATTEMPTS


@pytest.mark.parametrize("case", ODD_UPLOADS)
def test_a_listing_of_uploads_that_makes_no_sense_is_told_and_ends(connector, proxy, case):
    answer, told = ODD_UPLOADS[case]
    proxy.fault("busy", UPLOADS, times=ALWAYS, answer=answer, status="200 OK")
    with pytest.raises(TransientError, match=rf"^conn: could not list the uploads of .*({told})"):
        connector.unfinished("")
    assert len(proxy.struck) <= 3 * object_store._ATTEMPTS


def test_a_listing_of_uploads_goes_on_by_key_where_there_is_no_marker_of_an_upload(connector, proxy, base):
    first = uploads(begun(Key=f"{base}/a"), **MORE, NextKeyMarker=f"{base}/a")
    proxy.fault("busy", UPLOADS, answer=first, status="200 OK")
    proxy.fault("busy", UPLOADS, answer=uploads(begun(Key=f"{base}/b"), IsTruncated="false"), status="200 OK")
    assert [one.key for one in connector.unfinished("")] == ["a", "b"]


def test_an_answer_that_could_not_be_read_once_is_asked_for_again(connector, direct, proxy):
    direct.create("a", b"x")
    proxy.fault("busy", LISTING, answer=objects(entry("a", Size="much"), IsTruncated="false"), status="200 OK")
    assert [one.key for one in connector.files("")] == ["a"]


def test_a_sweep_goes_on_where_the_uploads_of_one_folder_cannot_be_listed(connector, direct, proxy):
    connector._to_sweep |= {"a", "b"}
    proxy.fault("busy", UPLOADS, answer=refusal("NotImplemented"), status="501 Not Implemented")
    with pytest.raises(RequestError, match="NotImplemented"):
        connector.sweep()
    assert connector._to_sweep == set()
    assert len(proxy.struck) == 1
    assert len(proxy.requests) == 1


STRAY = "segments/prompt_id=prm/prompt_run_id=run_1/part-00000-2d711642b726b044.parquet"  # as of b"x"
ODD_ANSWERS = {
    "501": {"answer": refusal("NotImplemented"), "status": "501 Not Implemented"},
    "501 without a word": {"answer": b"", "status": "501 Not Implemented"},
    "403": {"answer": refusal("AccessDenied"), "status": "403 Forbidden"},
    "no marker": {"answer": uploads(begun(), **MORE), "status": "200 OK"},
    "500": {"answer": refusal("InternalError"), "status": "500 No"},
}


@pytest.fixture
def claimed(direct):
    """A destination at which a delivery has died: with a file that nobody committed, and an upload under way."""
    claim(Destination(direct, "team", Owner(type="automation", index_id="idx", automation="team")))
    direct.create(f"team/{STRAY}", b"x")
    client = direct.file_system()
    client.call_s3("create_multipart_upload", Bucket="bucket", Key=f"{direct.prefix}team/{STRAY}")
    return direct


@pytest.mark.parametrize("odd", ODD_ANSWERS)
def test_a_vacuum_does_the_rest_where_uploads_cannot_be_listed(connector, claimed, proxy, caplog, odd):
    proxy.fault("busy", UPLOADS, times=ALWAYS, **ODD_ANSWERS[odd])
    done = vacuum(Destination(connector, "team"), lambda: datetime.now(UTC), without_log=True)
    assert (done.strays, done.uploads) == ((STRAY,), ())
    assert claimed.read(f"team/{STRAY}") is None
    assert "unfinished uploads stay, since they cannot be listed: conn: could not list the uploads of" in caplog.text
    assert len(claimed.unfinished("team")) == 1


def test_a_vacuum_does_the_rest_where_uploads_cannot_be_aborted(connector, claimed, proxy, caplog):
    proxy.fault("busy", r"^DELETE .*uploadId=", times=ALWAYS, **ODD_ANSWERS["501"])
    done = vacuum(Destination(connector, "team"), lambda: datetime.now(UTC), without_log=True)
    assert (done.strays, done.uploads) == ((STRAY,), ())
    assert "the unfinished upload of s3://bucket/" in caplog.text
    proxy.heal()
    done = vacuum(Destination(connector, "team"), lambda: datetime.now(UTC))
    assert done.uploads == (STRAY,)
    assert claimed.unfinished("team") == []


def test_a_name_at_which_no_delivery_can_be_is_no_destination(connector, proxy, base):
    there = [entry(f"{base}/{folder}/_vv/owner.json") for folder in ("team", "/team", "team//a", "../team")]
    proxy.fault("busy", LISTING, answer=objects(*there, IsTruncated="false"), status="200 OK")
    assert destinations(connector) == ["team"]


def test_a_key_that_cannot_be_sent_is_refused_before_anything_is_asked(connector, proxy):
    with pytest.raises(RequestError, match="is not a path below"):
        connector.read("a\ud800")
    assert proxy.requests == []


@pytest.mark.parametrize("spelled", ["True", "TRUE", "1", " true\n"])
def test_a_listing_that_spells_otherwise_that_there_is_more_is_not_at_its_end(connector, proxy, base, spelled):
    more = {"IsTruncated": spelled, "NextContinuationToken": "t"}
    proxy.fault("busy", LISTING, answer=objects(entry(f"{base}/a"), **more), status="200 OK")
    proxy.fault("busy", LISTING, answer=objects(entry(f"{base}/b"), IsTruncated="False"), status="200 OK")
    assert [one.key for one in connector.files("")] == ["a", "b"]
    first = uploads(begun(Key=f"{base}/a"), IsTruncated=spelled, NextKeyMarker=f"{base}/a")
    proxy.fault("busy", UPLOADS, answer=first, status="200 OK")
    proxy.fault("busy", UPLOADS, answer=uploads(begun(Key=f"{base}/b"), IsTruncated="0"), status="200 OK")
    assert [one.key for one in connector.unfinished("")] == ["a", "b"]


def test_what_a_listing_names_outside_the_folder_that_was_asked_for_is_none_of_it(connector, proxy, base):
    named = [entry(f"{base}/{key}") for key in ("a/x", "ab/x", "b")]
    answer = objects(*named, entry("other/a/x"), entry("a/x"), entry(""), IsTruncated="false")
    proxy.fault("busy", LISTING, answer=answer, status="200 OK")
    assert [one.key for one in connector.files("a")] == ["a/x"]


def test_an_object_of_less_than_no_bytes_makes_no_sense(connector, proxy, base):
    answer = objects(entry(f"{base}/a", Size=-1), IsTruncated="false")
    proxy.fault("busy", LISTING, answer=answer, status="200 OK")
    with pytest.raises(TransientError, match="less than no bytes"):
        connector.files("")


def test_a_page_in_place_of_a_listing_does_not_say_that_there_is_no_object(connector, direct, proxy):
    direct.create("a", b"x")
    proxy.fault("busy", "^GET .*/a", times=ALWAYS, answer=b"", status="403 Forbidden")
    proxy.fault("busy", LISTING, times=ALWAYS, answer=b"<html>log in</html>", status="200 OK")
    with pytest.raises(TransientError, match="what answers is not the store"):
        connector.read("a")


def test_clocks_that_differ_are_told(connector, proxy):
    proxy.fault("busy", times=ALWAYS, answer=refusal("RequestTimeTooSkewed"), status="403 Forbidden")
    with pytest.raises(TransientError, match="The clock of this machine and the store's differ"):
        connector.read("a")


# Redirects


@pytest.fixture
def elsewhere():
    with TcpProxy("http://127.0.0.1:9") as other:
        other.fault("busy", times=ALWAYS, answer=b"", status='200 OK\r\nETag: "x"')
        yield other


REDIRECTS = ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]


def test_a_store_that_sends_us_elsewhere_and_does_not_say_where_is_not_asked_for_ever(connector, proxy):
    proxy.fault("busy", times=ALWAYS, answer=b"", status="301 Moved Permanently")
    assert [one.outcome for one in check_connector(connector)][1:] == ["failed"]
    with pytest.raises(RequestError, match="The store sends us elsewhere"):
        connector.files("")
    assert len(proxy.struck) < 5


@pytest.mark.parametrize("status", REDIRECTS)
def test_nothing_follows_a_store_that_sends_us_elsewhere(connector, proxy, elsewhere, tmp_path, status):
    proxy.fault("busy", times=ALWAYS, answer=b"", status=f"{status}\r\nLocation: {elsewhere.url}/bucket/b")
    for ask in ASKED.values():
        with pytest.raises(RequestError, match=r"The store sends us elsewhere, which is not followed"):
            ask(connector, file_of(tmp_path, 100))
    assert elsewhere.connections == 0


# Google's and Azure's listings, alike


@pytest.fixture(scope="module")
def google(servers):
    with gcs(servers.fake_gcs) as running, TcpProxy(running.endpoint_url) as proxy:
        options = {"anonymous": True, "environ": {}}
        yield proxy, GcsConnector("conn", "bucket", "g", endpoint_url=proxy.url, **options), r"^GET .*/o\?"


@pytest.fixture(scope="module")
def azure(servers):
    running = servers.azurite
    with TcpProxy(running.endpoint_url) as proxy:
        options = {"account_key_env": "KEY", "environ": {"KEY": running.key}}
        url = f"{proxy.url}/{running.account}"
        made = AzureConnector("conn", running.account, "bucket", "g", endpoint_url=url, **options)
        yield proxy, made, "^GET .*comp=list"


def items(*found, **fields):
    return json.dumps({"kind": "storage#objects", "items": list(found), **fields}).encode()


def blobs(*found, marker=""):
    return (
        f'<?xml version="1.0"?><EnumerationResults ContainerName="bucket"><Blobs>{"".join(found)}</Blobs>'
        f"<NextMarker>{marker}</NextMarker></EnumerationResults>"
    ).encode()


def blob(name, size=1):
    length = "" if size is None else f"<Content-Length>{size}</Content-Length>"
    named = "" if name is None else f"<Name>{name}</Name>"
    return f"<Blob>{named}<Properties>{length}<BlobType>BlockBlob</BlobType></Properties></Blob>"


def item(name, size="1"):
    return {key: value for key, value in (("name", name), ("size", size)) if value is not None}


ODD = {
    "google": {
        "one token for ever": numbered(lambda n: items(item(f"g/{n}"), nextPageToken="t")),
        "two tokens for ever": numbered(lambda n: items(item(f"g/{n}"), nextPageToken=f"t{n % 2}")),
        "one page for ever": numbered(lambda n: items(item("g/a"), nextPageToken=f"t{n}")),
        "no size": items(item("g/a", size=None)),
        "no name": items(item(None)),
        "a size in words": items(item("g/a", size="much")),
        "items that are none": b'{"items": {"a": 1}}',
        "items that are a number": b'{"items": 5}',
        "no JSON": b"<a/>",
        "JSON of another kind": b"[1]",
    },
    "azure": {
        "one token for ever": numbered(lambda n: blobs(blob(f"g/{n}"), marker="t")),
        "two tokens for ever": numbered(lambda n: blobs(blob(f"g/{n}"), marker=f"t{n % 2}")),
        "one page for ever": numbered(lambda n: blobs(blob("g/a"), marker=f"t{n}")),
        "no size": blobs(blob("g/a", size=None)),
        "no name": blobs(blob(None)),
        "a size in words": blobs(blob("g/a", size="much")),
        "no XML": b"hello",
        "XML of another kind": b"<Other><a/></Other>",
    },
}


@pytest.mark.parametrize(("store", "case"), [(store, case) for store, cases in ODD.items() for case in cases])
def test_a_listing_of_another_store_that_makes_no_sense_is_told_and_ends(request, store, case):
    proxy, connector, listing = request.getfixturevalue(store)
    proxy.clear()
    proxy.fault("busy", listing, times=ALWAYS, answer=ODD[store][case], status="200 OK")
    with pytest.raises(TransientError, match=r"^conn: could not list "):
        connector.files("")
    assert len(proxy.struck) <= object_store._ATTEMPTS


@pytest.mark.parametrize("store", ODD)
def test_a_page_without_anything_on_it_is_no_end_of_a_listing(request, store):
    proxy, connector, listing = request.getfixturevalue(store)
    proxy.clear()
    empty, last = {
        "google": (b'{"nextPageToken": "t"}', items(item("g/a"), item("g/folder/"))),
        "azure": (blobs(marker="t"), blobs(blob("g/a"), blob("g/folder/"))),
    }[store]
    proxy.fault("busy", listing, answer=empty, status="200 OK")
    proxy.fault("busy", listing, answer=last, status="200 OK")
    assert [one.key for one in connector.files("")] == ["a"]


@pytest.mark.parametrize("store", ODD)
def test_what_a_store_does_not_implement_is_told_at_once(request, store):
    proxy, connector, listing = request.getfixturevalue(store)
    proxy.clear()
    proxy.fault("busy", listing, times=ALWAYS, answer=b"", status="501 Not Implemented")
    with pytest.raises(RequestError, match="501"):
        connector.files("")
    assert len(proxy.struck) == 1


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("store", ODD)
def test_nothing_follows_another_store_that_sends_us_elsewhere(request, elsewhere, store, tmp_path, status):
    proxy, connector, _ = request.getfixturevalue(store)
    proxy.clear()
    connector._refuses_taken_names = True
    proxy.fault("busy", times=ALWAYS, answer=b"", status=f"{status}\r\nLocation: {elsewhere.url}/bucket/b")
    for name in ("list", "write", "create", "read", "delete"):
        with pytest.raises(VVExportsError, match="could not"):
            ASKED[name](connector, file_of(tmp_path, 100))
    assert elsewhere.connections == 0


@pytest.mark.parametrize("code", ["InvalidBlockList", "InvalidBlockId", "InvalidBlobOrBlock"])
@pytest.mark.parametrize("on", ["^PUT .*comp=blocklist", "^PUT .*comp=block&"])
@pytest.mark.usefixtures("parts_of_little")
def test_blocks_that_azure_lost_are_uploaded_again_and_not_for_ever(azure, tmp_path, code, on):
    proxy, connector, _ = azure
    proxy.clear()
    connector._refuses_taken_names = True
    path, key = file_of(tmp_path), uuid.uuid4().hex
    proxy.fault("busy", on, answer=refusal(code), status="400 Bad Request")
    connector.put(path, key)
    assert connector.read(key) == path.read_bytes()
    assert len(proxy.struck) == 1
    lost = proxy.fault("busy", on, times=ALWAYS, answer=refusal(code), status="400 Bad Request")
    with pytest.raises(TransientError, match=f"could not write .*{code}.* try again later"):
        connector.put(path, f"{key}-again")
    assert ALWAYS - lost.times != 0
    assert len(proxy.struck) == 1 + object_store._UPLOADS
    assert connector.read(f"{key}-again") is None


@pytest.mark.usefixtures("parts_of_little")
def test_a_blob_of_other_bytes_that_says_to_have_our_md5_is_no_commit_of_ours(azure, tmp_path):
    proxy, connector, _ = azure
    proxy.clear()
    connector._refuses_taken_names = True
    path, other, key = file_of(tmp_path), file_of(tmp_path, seed=1), uuid.uuid4().hex
    connector.put(other, key)
    blob = connector._blob(f"g/{key}")
    digest = bytearray(hashlib.md5(path.read_bytes()).digest())
    sync(connector.file_system().loop, blob.set_http_headers, ContentSettings(content_md5=digest))
    proxy.fault("busy", "comp=blocklist", times=ALWAYS, answer=refusal("InvalidBlockList"), status="400 Bad Request")
    with pytest.raises(TransientError, match="InvalidBlockList"):
        connector.put(path, key)
    assert sync(connector.file_system().loop, connector.fetch, f"g/{key}", None, None)[0] == other.read_bytes()


# One store, however its address is spelled


def test_the_addresses_of_one_store_are_equal():
    def s3(url):
        return s3_connector(SimpleNamespace(endpoint_url=url, access_key="x", secret_key="x"), "b").address

    assert s3("https://h") == s3("https://H.:443/") == s3("https://bucket.h") == "https://h s3://bucket/b"
    assert s3("https://s3.eu-central-1.amazonaws.com") == s3(None) == "s3://bucket/b"
    assert s3("https://h") != s3("https://h:9000")

    def google(url):
        return GcsConnector("conn", "bucket", "b", endpoint_url=url, environ={}).address

    assert google("https://storage.googleapis.com:443") == google(None) == "gs://bucket/b"
    assert google("http://h:80") == google("http://h/") != google("http://h:81")

    def of_azure(url, account="account", container="box"):
        return AzureConnector("conn", account, container, "b", endpoint_url=url).address

    own = "abfss://box@account.dfs.core.windows.net/b"
    assert (
        of_azure("https://account.blob.core.windows.net/") == of_azure(None) == of_azure(None, "Account", "BOX") == own
    )
    assert of_azure("http://127.0.0.1:10000/account/") == of_azure("http://127.0.0.1:10000/account") != own


# What a store repeats of a request

TOKEN = "IQoJb3JpZ2luX2VjEDsaCXVzLWVhc3QtMSJ" + "Ab3/dE9+" * 90 + "=="
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def repeated(code):
    """The error of a gateway that shows the request which it refuses."""

    def answer(head):
        said = head.decode().replace("&", "&amp;").replace("<", "&lt;")
        return refusal(code, f"The request\x85 {said * 2} and {SECRET} was refused.")

    return answer


ASKED = {
    "list": lambda store, path: store.files(""),
    "write": lambda store, path: store.put(path, "a"),
    "create": lambda store, path: store.create("a", b"x"),
    "read": lambda store, path: store.read("a"),
    "delete": lambda store, path: store.delete(["a"]),
    "uploads": lambda store, path: store.unfinished(""),
}


@pytest.fixture(scope="module")
def with_token(server, running_proxy):
    environ = {"KEY": "AKIAIOSFODNN7EXAMPLE", "SECRET": SECRET, "TOKEN": TOKEN}
    place = replace(server, endpoint_url=running_proxy.url)
    made = s3_connector(place, environ=environ, session_token_env="TOKEN")
    made._refuses_taken_names = True
    return made


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    ("code", "status"),
    [("InvalidArgument", "400 Bad Request"), ("AccessDenied", "403 Forbidden"), ("SlowDown", "503 Slow Down")],
)
def test_a_store_that_repeats_the_request_gives_no_secret_away(  # noqa: PLR0917 - fixtures
    with_token, proxy, tmp_path, caplog, asked, code, status
):
    caplog.set_level(logging.DEBUG)
    proxy.fault("busy", times=ALWAYS, answer=repeated(code), status=status)
    with pytest.raises(VVExportsError) as caught:
        ASKED[asked](with_token, file_of(tmp_path, 100))
    shown = io.StringIO()
    traceback.print_exception(caught.value, file=shown)
    told = f"{shown.getvalue()} {caught.value!r} {caplog.text}"
    signatures = re.findall(r"Signature=([0-9a-f]{8})", told)
    assert not any(secret in told for secret in (TOKEN, TOKEN[:20], TOKEN[-20:], SECRET, SECRET[:20], *signatures))
    assert "AWS4-HMAC-SHA256 Cred" not in told
    assert code in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_the_findings_of_a_check_give_no_secret_away(with_token, proxy):
    proxy.fault("busy", "^GET", times=ALWAYS, answer=repeated("InvalidArgument"), status="400 Bad Request")
    said = " ".join(one.detail for one in check_connector(with_token))
    assert "InvalidArgument" in said
    assert TOKEN[:20] not in said
    assert SECRET[:20] not in said


def test_a_session_token_that_the_sdk_found_is_given_away_no_more(server, proxy, monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "AKIAX"), ("SECRET_ACCESS_KEY", SECRET), ("SESSION_TOKEN", "short+token/1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    place = replace(server, endpoint_url=proxy.url)
    connector = s3_connector(place, access_key_id_env=None, secret_access_key_env=None)
    answer = refusal("InvalidArgument", f"we do not like short+token/1 and {SECRET[:25]} nor short%2Btoken%2F1")
    proxy.fault("busy", times=ALWAYS, answer=answer, status="400 Bad Request")
    with pytest.raises(RequestError, match=r"we do not like \*\*\* and \*\*\* nor \*\*\*"):
        connector.files("")
