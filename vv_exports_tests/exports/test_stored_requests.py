"""Requests in the pipeline's storage: those of version 0.1 are read, and mean what they meant."""

import hashlib
import json

import msgspec
import pytest

from vv_exports.config import content_options
from vv_exports.connectors.local import LocalConnector
from vv_exports.domain.exports import ExportRequest
from vv_exports.errors import DeliveredDataError, RequestError
from vv_exports.exports.idempotency import request_hash
from vv_exports.exports.records import Records
from vv_exports.exports.stored_requests import restored, stored
from vv_exports_tests.exports.records import record_of

FORMER = (
    b'{"export_type":"index","index_id":"idx","prompt_run_ids":["run_0"],"destination_connector_id":null,'
    b'"destination_subpath":null,"format":"csv"}'
)
"""What version 0.1 wrote, and hashed."""
CHOSEN = {
    "format": {"name": "csv", "delimiter": ";"},
    "tables": ["segments"],
    "fields": {"exclude": ["metadata.a"]},
    "redact": {"metadata.b": "hash", "video_name": "drop"},
    "compression": "gzip",
    "target_file_bytes": 1 << 20,
    "on_schema_conflict": "text",
    "contract": "quarantine",
}


def request_of(**chosen) -> ExportRequest:
    return ExportRequest("index", "idx", ("run_0",), None, None, content_options(chosen))


def test_a_key_of_before_still_stands_for_the_same_request():
    assert request_hash(request_of(format="csv")) == hashlib.sha256(FORMER).hexdigest()
    assert request_hash(request_of(format={"name": "csv", "excel": False})) == hashlib.sha256(FORMER).hexdigest()


@pytest.mark.parametrize("name", CHOSEN)
def test_whatever_else_is_chosen_makes_another_request(name):
    assert request_hash(request_of(**{"format": "csv", name: CHOSEN[name]})) != hashlib.sha256(FORMER).hexdigest()


def test_the_order_of_a_choice_makes_no_other_request():
    turned = {name: CHOSEN[name] for name in reversed(CHOSEN)}
    turned["redact"] = {path: CHOSEN["redact"][path] for path in reversed(CHOSEN["redact"])}
    assert request_hash(request_of(**turned)) == request_hash(request_of(**CHOSEN))


def test_a_request_is_read_as_it_was_stored():
    assert restored(msgspec.json.decode(FORMER)) == request_of(format="csv")
    for request in (request_of(**CHOSEN), request_of(), ExportRequest("prompt_run", "i", ("r",), "c", "s")):
        assert restored(msgspec.json.decode(msgspec.json.encode(stored(request)))) == request


def test_a_record_of_before_is_read(tmp_path):
    storage = LocalConnector("storage", tmp_path, make_root=True)
    written = record_of(1, request=request_of(format="csv"))
    Records(storage).begin(written)
    (file,) = storage.files("exports/records")
    as_it_was = json.loads((tmp_path / file.key).read_bytes())
    assert as_it_was["request"] == json.loads(FORMER)
    assert Records(storage).find(written.export_id) == written


def test_a_record_keeps_what_was_chosen(tmp_path):
    records = Records(LocalConnector("storage", tmp_path, make_root=True))
    written = record_of(1, request=request_of(**CHOSEN))
    records.begin(written)
    assert records.find(written.export_id) == written
    assert records.find(written.export_id).export().content == CHOSEN


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"content": {"colour": "red"}}, "colour: is not a known key"),
        ({"content": "red"}, "Expected `object`"),
        ({"format": "xlsx"}, "'xlsx' is not allowed"),
        ({"format": None}, "Expected `str`"),
    ],
)
def test_a_record_with_a_content_that_this_version_does_not_know_is_named(tmp_path, change, said):
    storage = LocalConnector("storage", tmp_path, make_root=True)
    record = record_of(1)
    Records(storage).begin(record)
    (file,) = storage.files("exports/records")
    data = json.loads((tmp_path / file.key).read_bytes())
    data["request"] |= change
    (tmp_path / file.key).write_text(json.dumps(data))
    with pytest.raises(DeliveredDataError, match="does not say what became of export") as caught:
        Records(storage).find(record.export_id)
    assert said in str(caught.value)
    assert not isinstance(caught.value, RequestError)
