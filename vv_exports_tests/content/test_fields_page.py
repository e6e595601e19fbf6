"""The example in docs/fields.md is true."""

import hashlib
import hmac
import json

import pyarrow as pa

from vv_exports.config import parse_config
from vv_exports.content.selection import ANSWER_TEXTS, ERROR_TEXTS, NAMING_TEXTS, Selection
from vv_exports.snapshots.tables import Table, table_of
from vv_exports_tests.content.documents import RUN, answers_of
from vv_exports_tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "fields.md"
KEY = b"an example, not a secret"
_TEXT = {"type": "string"}
_PERSON = {"type": "object", "properties": {"age": {"type": "integer"}, "name": _TEXT, "phone": _TEXT}}
_SHOT = {"type": "object", "properties": {"type": _TEXT}}
_PROPERTIES = {"mood": _TEXT, "people": {"type": "array", "items": _PERSON}, "shot": _SHOT, "summary": _TEXT}


def test_what_the_page_shows_is_what_is_delivered(tmp_path):
    example, answer, delivered = (block.text for block in blocks(PAGE) if block.language in {"yaml", "json"})
    assert KEY.decode() in PAGE.read_text()
    connectors = "connectors: {conn_export: {provider: local, root: ., scopes: [export]}}\n"
    rest = "source: {kind: local_archive, path: a}\nstorage: s\n" + connectors
    config = parse_config(rest + example, folder=tmp_path, where="the page")
    options = config.indexes["idx_archive"].automations["review-team"].content
    column = table_of("segments", {"type": "object", "properties": _PROPERTIES}).column
    documents = [{"metadata": json.loads(answer)}]
    batch = Table("segments", column).batch(documents, RUN)
    selection = Selection(options, KEY)
    expected = json.loads(delivered)
    expected["people"][0]["name"] = hmac.new(KEY, b'"Ann"', hashlib.sha256).hexdigest()
    answers = selection.answers(answers_of(documents), batch, column)
    assert json.loads(answers[0].as_py()) == expected
    selected = selection.apply(batch, column)
    assert Table("segments", selection.column(column)).documents(selected)[0]["metadata"] == expected
    assert "thumbnail_gcs_uri" not in selected.schema.names
    assert pa.types.is_string(selected.schema.field("metadata").type.field("summary").type)


def test_the_page_names_every_field_that_is_left_out_by_itself():
    page = PAGE.read_text()
    assert [name for name in (*ANSWER_TEXTS, *ERROR_TEXTS, *NAMING_TEXTS) if f"`{name}`" not in page] == []
