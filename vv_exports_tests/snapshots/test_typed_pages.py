"""The types of a table are made once, whoever asks for them meanwhile."""

from vv_exports.snapshots import typed_pages
from vv_exports.snapshots.tables import table_of


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
