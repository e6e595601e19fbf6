"""The types of a table are made once, whoever asks for them meanwhile."""

import pyarrow.parquet as pq

from vv_exports.snapshots import typed_pages
from vv_exports.snapshots.tables import table_of
from vv_exports.sources import archive_files
from vv_exports_tests.archives import read_archived_run, segment, write_run


class Forgetful(dict):
    """As if another thread made room as soon as something is kept."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.clear()


def test_types_that_others_forget_at_once_are_given_all_the_same(monkeypatch):
    table = table_of("segments", {"type": "object", "properties": {"a": {"type": "string"}}})
    monkeypatch.setattr(typed_pages, "_KNOWN", Forgetful())
    assert typed_pages._types_of(table).table is table


def test_tables_of_one_prompt_share_their_types():
    schema = {"type": "object", "properties": {"b": {"type": "string"}}}
    assert typed_pages._types_of(table_of("segments", schema)) is typed_pages._types_of(table_of("segments", schema))


def test_fields_that_no_row_has_cost_nothing_where_others_are_null_or_come_late(tmp_path, monkeypatch):
    decoded = []
    take = typed_pages._taken

    def taken(lines, decoder):
        decoded.append((len(lines), len(decoder.type.__struct_fields__)))
        return take(lines, decoder)

    monkeypatch.setattr(typed_pages, "_taken", taken)
    monkeypatch.setattr(archive_files, "_BLOCK", 4_096)
    rows = [segment(number, image_embedding_succeeded=None) for number in range(200)]
    late = [segment(number, gcs_uri=f"gs://{number}", gif_available=True) for number in range(200, 400)]
    write_run(tmp_path, segments=[*rows, *late])
    reading = read_archived_run(tmp_path, tmp_path)
    table = pq.read_table(reading.files["segments"][0].path)
    assert table["gcs_uri"].null_count == 200
    assert table["image_embedding_succeeded"].null_count == 400
    every, *_ = (fields for _, fields in decoded)
    assert decoded[-1][1] < every / 2
    assert sum(lines for lines, _ in decoded) < 400 + 3 * 15, "but for the page in which fields come, which has 15 rows"
