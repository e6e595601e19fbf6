"""Chosen fields and redaction: typed rows, documents and columns agree, and what is redacted is nowhere."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.content.selection import ANSWER_TEXTS, ERROR_TEXTS, NAMING_TEXTS, Selection
from vv_exports.domain.content_options import ContentOptions, Fields
from vv_exports.domain.field_paths import ITEMS, FieldPath
from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.errors import CredentialsError, SelectionError
from vv_exports.snapshots.columns import List, Misfit, Object, Text
from vv_exports.snapshots.json_pointer import pointer, tokens
from vv_exports.snapshots.rebuild import rescue_columns
from vv_exports.snapshots.tables import Table, table_of
from vv_exports_tests.content.documents import RUN, answers_of, results, strict

KEY = b"a key of the tests"


def _object(**properties):
    return {"type": "object", "properties": properties}


def _selected(options, schema, *documents, table="segments", key=KEY):
    """What is delivered of documents: by typed rows, by documents, and by the answers' text."""
    column = table_of(table, schema).column
    selection = Selection(options, key)
    batch = Table(table, column).batch(list(documents), RUN)
    selected = selection.apply(batch, column)
    delivered = Table(table, selection.column(column))
    assert selected.schema == delivered.schema
    return delivered, selected


def _redact(**methods):
    return ContentOptions(redact={path.replace("__", "."): method for path, method in methods.items()})


def _metadata(options, schema, *answers):
    delivered, selected = _selected(options, schema, *({"metadata": answer} for answer in answers))
    return [document.get("metadata") for document in delivered.documents(selected)]


def _json_metadata(options, schema, *answers):
    column = table_of("segments", schema).column
    documents = [{"metadata": answer} for answer in answers]
    batch = Table("segments", column).batch(documents, RUN)
    texts = Selection(options, KEY).answers(answers_of(documents), batch, column)
    return [decode(text.encode()) for text in texts.to_pylist()]


def _places(value, place):
    """Every place in a document, as the steps of a path."""
    yield place
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*place, name))
    elif isinstance(value, list):
        for inner in value:
            yield from _places(inner, (*place, ITEMS))


def _column_places(column, place):
    if place:
        yield place
    if isinstance(column, Object):
        for name, inner in column.fields.items():
            yield from _column_places(inner, (*place, name))
    elif isinstance(column, List):
        yield from _column_places(column.item, (*place, ITEMS))


@st.composite
def _choices(draw, table, documents):
    """Options that name places of the columns and of the documents."""
    places = {*_column_places(table.column, ())} | {
        (name, *inner) for document in documents for name in document for inner in _places(document[name], ())
    }
    paths = [str(FieldPath(place)) for place in sorted(places, key=repr) if place[0] not in {"rescued", "absent"}]
    paths = [path for path in paths if path.split(".")[0] not in {"index_id", "prompt_id", "prompt_run_id"}]
    in_metadata = [path for path in paths if path.startswith("metadata")]
    some = st.sampled_from(paths) | (st.sampled_from(in_metadata) if in_metadata else st.nothing())
    include = draw(st.none() | st.lists(some, min_size=1, max_size=4, unique=True))
    exclude = draw(st.lists(some | st.just("rescued"), max_size=2, unique=True))
    redact = draw(st.dictionaries(some, st.sampled_from(["drop", "hash", "mask"]), max_size=3))
    return ContentOptions(fields=Fields(None if include is None else tuple(include), tuple(exclude)), redact=redact)


def _is_in_metadata(place):
    return tokens(place)[0] == "metadata"


def _rows(table, documents):
    if table.column.fields:
        return table.batch(documents, RUN)
    misfits = [Misfit(at, pointer(name), one[name]) for at, one in enumerate(documents) for name in one]
    built = type("Built", (), {"misfits": misfits, "absent": []})
    rescued, absent = rescue_columns(built, len(documents))
    ids = [pa.repeat(text, len(documents)) for text in (RUN.index_id, RUN.prompt_id, RUN.run_id)]
    return pa.RecordBatch.from_arrays([*ids, rescued, absent], schema=table.schema)


@settings(max_examples=150, deadline=None)
@given(st.data())
@pytest.mark.slow
def test_selected_rows_are_the_rows_of_the_selected_documents(data):
    table, documents = data.draw(results())
    options = data.draw(_choices(table, documents))
    try:
        selection = Selection(options, KEY)
    except SelectionError:
        return
    delivered = Table(table.name, selection.column(table.column))
    batch = table.batch(documents, RUN)
    found = selection.apply(batch, table.column)
    found.validate(full=True)
    selected = [selection.document(one, table.column) for one in table.documents(batch)]
    expected = _rows(delivered, selected)
    if "rescued" in options.fields.exclude:
        place = expected.schema.get_field_index("rescued")
        expected = expected.set_column(place, "rescued", pa.nulls(len(documents), pa.string()))
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema == delivered.schema

    record = selection.record(batch, table.column)
    if "metadata" not in table.column.fields:
        assert record.to_pylist() == found.to_pylist()
    elif selection.changes(table.column):
        typed = [{name: row[name] for name in row if name not in {"metadata", "absent"}} for row in found.to_pylist()]
        for row in typed:
            there = {
                place: one
                for place, one in decode((row["rescued"] or "{}").encode()).items()
                if not _is_in_metadata(place)
            }
            row["rescued"] = encode_sorted(there).decode() if there else None
        assert [{**row, "absent": None} for row in typed] == record.to_pylist()

    answers = selection.answers(answers_of(documents), batch, table.column)
    if "metadata" in delivered.column.fields:
        texts = answers.to_pylist()
        there = [selection.document(document, table.column) for document in documents]
        assert [None if text is None else strict(decode(text.encode())) for text in texts] == [
            strict(document["metadata"]) if "metadata" in document else None for document in there
        ]
    elif answers is not None and table.has_answers:
        raise AssertionError("no metadata is delivered")
    if not selection.changes(table.column):
        assert found.equals(batch)
        assert selection.column(table.column) == table.column


PEOPLE = _object(
    people={"type": "array", "items": _object(name={"type": "string"}, age={"type": "integer"})},
    mood={"type": "string"},
)


def test_a_field_that_is_left_out_is_in_no_column_and_in_no_row():
    options = ContentOptions(fields=Fields(exclude=("metadata.people[].age", "metadata.mood", "gcs_uri")))
    answer = {"mood": "calm", "people": [{"name": "Ann", "age": 5}, {"name": "Bob", "age": "six"}], "more": 1}
    delivered, selected = _selected(options, PEOPLE, {"gcs_uri": "gs://x", "video_id": "v", "metadata": answer})
    assert "gcs_uri" not in selected.schema.names
    assert delivered.column.fields["metadata"] == Object({"people": List(Object({"name": Text()}))})
    (document,) = delivered.documents(selected)
    assert document["metadata"] == {"people": [{"name": "Ann"}, {"name": "Bob"}], "more": 1}
    assert _json_metadata(options, PEOPLE, answer) == [document["metadata"]]


def test_only_included_fields_are_delivered_and_the_ids_of_the_run():
    options = ContentOptions(fields=Fields(include=("video_id", "metadata.people[].name")))
    answer = {"mood": "calm", "people": [{"name": "Ann", "age": 5}, "Bob"], "more": 1}
    _, selected = _selected(options, PEOPLE, {"video_id": "v", "segment_id": "s", "unknown": 1, "metadata": answer})
    assert selected.schema.names == [
        *("index_id", "prompt_id", "prompt_run_id", "video_id", "metadata", "rescued", "absent")
    ]
    assert selected.to_pylist()[0]["metadata"] == {"people": [{"name": "Ann"}, None]}
    assert _json_metadata(options, PEOPLE, answer) == [{"people": [{"name": "Ann"}, None]}]


@pytest.mark.parametrize("path", ["metadata.mood", "prompt_id"])
def test_files_without_a_chosen_field_still_tell_whose_rows_they_are(path):
    options = ContentOptions(fields=Fields(include=(path,)))
    _, selected = _selected(options, PEOPLE, {"video_id": "v", "unknown": 5}, table="failures")
    assert selected.to_pylist() == [
        {"index_id": "idx_1", "prompt_id": "prm_1", "prompt_run_id": "run_1", "rescued": None, "absent": None}
    ]


def test_an_object_goes_with_the_last_of_its_columns():
    schema = _object(shot=_object(type={"type": "string"}), mood={"type": "string"})
    options = ContentOptions(fields=Fields(exclude=("metadata.shot.type",)))
    delivered, _ = _selected(options, schema, {"metadata": {}})
    assert list(delivered.column.fields["metadata"].fields) == ["mood"]
    answer = {"shot": {"type": "wide", "lens": 50}, "mood": "calm"}
    assert _metadata(options, schema, answer) == _json_metadata(options, schema, answer) == [{"mood": "calm"}]


def test_hashed_and_masked_values_are_text_and_null_stays_null():
    schema = _object(
        name={"type": ["string", "null"]},
        age={"type": ["integer", "null"]},
        tags={"type": "array", "items": {"type": "string"}},
    )
    options = _redact(metadata__name="hash", metadata__age="mask", **{"metadata__tags[]": "hash"})
    answers = [{"name": "Ann", "age": 5, "tags": ["a", "b"]}, {"name": None, "age": None}, {}]
    first, nulls, nothing = _metadata(options, schema, *answers)
    assert (len(first["name"]), first["age"], len(set(first["tags"]))) == (64, "***", 2)
    assert nulls == {"name": None, "age": None}
    assert nothing == {}
    assert _json_metadata(options, schema, *answers) == [first, nulls, nothing]


def test_a_value_has_one_hash_wherever_and_however_it_stands():
    values = [5, 5.0, "Ann", True, [1, {"a": 2.0}], {"b": 1, "a": None}, 2**60, Decimal("0.12345678901234567890123")]
    typed = [
        {"type": "number"},
        {"type": "integer"},
        {"type": "string"},
        {"type": "boolean"},
        {"type": "array", "items": {}},
        _object(a={"type": ["integer", "null"]}, b={"type": "number"}),
        {"type": "number"},
        {"type": "number"},
    ]
    for value, schema in zip(values, typed, strict=True):
        found = set()
        for kind in (schema, {}, {"type": "array", "items": {"type": "string"}}):
            (one,) = _metadata(_redact(metadata__x="hash"), _object(x=kind, y={"type": "string"}), {"x": value})
            (other,) = _json_metadata(_redact(metadata__x="hash"), _object(x=kind, y={}), {"x": value})
            (item,) = _metadata(
                _redact(**{"metadata__l[]__x": "hash"}),
                _object(l={"type": "array", "items": _object(x=kind)}),
                {"l": [{"x": value}]},
            )
            found |= {one["x"], other["x"], item["l"][0]["x"]}
        assert len(found) == 1, value
    texts = {
        next(iter(_json_metadata(_redact(metadata__x="hash"), _object(x={}), {"x": value})))["x"] for value in values
    }
    assert len(texts) == len(values) - 1, "5 and 5.0 are one number"


def test_another_key_gives_other_hashes():
    column = table_of("segments", PEOPLE).column
    batch = Table("segments", column).batch([{"metadata": {"mood": "calm"}}], RUN)
    hashes = {
        Selection(_redact(metadata__mood="hash"), key).apply(batch, column).to_pylist()[0]["metadata"]["mood"]
        for key in (KEY, b"another key of the tests")
    }
    assert len(hashes) == 2


def test_the_null_of_an_untyped_place_stays_null_and_is_told_from_its_absence():
    schema = _object(x={}, y={"type": "string"})
    for method in ("hash", "mask"):
        options = _redact(metadata__x=method)
        found = _metadata(options, schema, {"x": None}, {}, {"x": "null"})
        assert found[:2] == [{"x": None}, {}]
        assert isinstance(found[2]["x"], str)
        assert found == _json_metadata(options, schema, {"x": None}, {}, {"x": "null"})


def test_the_outer_of_two_redactions_is_what_happens():
    options = ContentOptions(redact={"metadata.people[]": "mask", "metadata.people[].name": "drop"})
    assert _metadata(options, PEOPLE, {"people": [{"name": "Ann"}, None]}) == [{"people": ["***", None]}]


def test_dropping_all_items_of_a_list_drops_the_list():
    assert _metadata(_redact(**{"metadata__people[]": "drop"}), PEOPLE, {"people": [], "mood": "x"}) == [{"mood": "x"}]


def test_what_has_not_the_structure_of_a_redacted_path_is_not_delivered():
    options = _redact(**{"metadata__people[]__name": "hash"})
    answers = [{"people": "Ann and Bob"}, {"people": ["Ann", {"name": "Bob", "age": 5}]}, {"people": {"name": "Ann"}}]
    text, mixed, single = _metadata(options, PEOPLE, *answers)
    assert (text, single) == ({}, {})
    assert mixed["people"][0] is None
    assert mixed["people"][1] == {"name": mixed["people"][1]["name"], "age": 5}
    assert len(mixed["people"][1]["name"]) == 64
    assert _json_metadata(options, PEOPLE, *answers) == [text, mixed, single]


def test_an_item_of_an_untyped_list_that_is_left_out_stays_as_null():
    schema = _object(lists={"type": "array", "items": {}}, x={})
    options = _redact(**{"metadata__lists[]__a": "drop", "metadata__x[]__a": "drop"})
    answer = {"lists": [[], {"a": 1}, "Ann", None], "x": [[], {"a": 1}, "Ann", None]}
    left = {"lists": [None, {}, None, None], "x": [None, {}, None, None]}
    assert _metadata(options, schema, answer) == _json_metadata(options, schema, answer) == [left]


def test_an_answer_that_fits_no_column_is_no_answer_without_rescued():
    options = ContentOptions(fields=Fields(exclude=("rescued",)))
    assert _metadata(options, PEOPLE, ["x"], {}) == [None, {}]
    column = table_of("segments", PEOPLE).column
    documents = [{"metadata": ["x"]}, {"metadata": {"more": 1}}]
    batch = Table("segments", column).batch(documents, RUN)
    assert Selection(options).answers(answers_of(documents), batch, column).to_pylist() == [None, "{}"]


def test_a_value_of_another_structure_is_no_excluded_field():
    options = ContentOptions(fields=Fields(exclude=("metadata.people[].age",)))
    answer = {"people": "Ann and Bob"}
    assert _metadata(options, PEOPLE, answer) == _json_metadata(options, PEOPLE, answer) == [answer]


def test_a_column_of_another_structure_than_a_redacted_path_is_left_out():
    options = _redact(metadata__mood__name="mask")
    assert _metadata(options, PEOPLE, {"mood": "Ann", "people": []}) == [{"people": []}]


def test_redaction_covers_every_spelling_of_a_name():
    schema = {"properties": {"Name": {"type": "string"}, "straße": {}, "café": {"type": "string"}, "x": {}}}
    options = ContentOptions(redact=dict.fromkeys(["metadata.name", "metadata.STRASSE", "metadata.CAFE\u0301"], "drop"))
    answer = {"Name": "a", "name": "b", "NAME": "c", "straße": "d", "Strasse": "e", "cafe\u0301": "f", "x": 1}
    assert _metadata(options, schema, answer) == _json_metadata(options, schema, answer) == [{"x": 1}]


def test_excluding_goes_by_the_name_as_it_is_written():
    options = ContentOptions(fields=Fields(exclude=("metadata.Mood",)))
    assert _metadata(options, PEOPLE, {"mood": "a", "Mood": "b"}) == [{"mood": "a"}]


@pytest.mark.parametrize(
    "options", [ContentOptions(fields=Fields(exclude=("rescued",))), ContentOptions(redact={"rescued": "drop"})]
)
def test_without_rescued_nothing_undeclared_or_ill_typed_is_delivered(options):
    answer = {"mood": 7, "more": 1, "people": [{"name": "Ann", "age": "six", "x": 0}, 5]}
    delivered, selected = _selected(options, PEOPLE, {"start_time": "soon", "unknown": 1, "metadata": answer})
    assert selected.column("rescued").to_pylist() == [None]
    (document,) = delivered.documents(selected)
    assert document["metadata"] == {"people": [{"name": "Ann"}, None]}
    assert _json_metadata(options, PEOPLE, answer) == [document["metadata"]]
    assert "unknown" not in document


def test_redacting_an_answer_leaves_out_what_repeats_it():
    texts = dict.fromkeys([*ANSWER_TEXTS, *ERROR_TEXTS], "Ann said so")
    for table in ("segments", "videos", "failures"):
        delivered, selected = _selected(
            _redact(**{"metadata__people[]__name": "mask"}),
            PEOPLE,
            {**texts, "summary": "Ann", "gcs_uri": "g"},
            table=table,
        )
        assert b"Ann" not in _bytes(selected)
        assert not delivered.column.fields.keys() & {*ANSWER_TEXTS, *ERROR_TEXTS}
        assert table == "failures" or "gcs_uri" in delivered.column.fields


def test_the_schema_that_a_result_repeats_may_name_its_values_and_is_left_out():
    schema = {"properties": {"mood": {"enum": ["<secret>"]}}}
    documents = [{"schema_used": used, "metadata": {}} for used in (encode_sorted(schema).decode(), schema)]
    for table in ("segments", "videos"):
        delivered, selected = _selected(_redact(metadata__mood="mask"), PEOPLE, *documents, table=table)
        assert b"<secret>" not in _bytes(selected)
        assert "schema_used" not in delivered.column.fields
    _, selected = _selected(_redact(video_name="mask"), PEOPLE, *documents)
    assert "schema_used" in selected.schema.names


def test_what_repeats_an_answer_may_be_redacted_by_its_own_method():
    options = _redact(metadata__mood="mask", metadata_text="hash", processing_warning="mask")
    _, selected = _selected(options, PEOPLE, {"metadata_text": "calm", "processing_warning": "calm"})
    (row,) = selected.to_pylist()
    assert (len(row["metadata_text"]), row["processing_warning"]) == (64, "***")


def test_redacting_a_name_or_an_id_leaves_out_the_links_that_are_made_of_it():
    _, selected = _selected(_redact(video_name="hash"), PEOPLE, {"video_name": "n", **dict.fromkeys(NAMING_TEXTS, "n")})
    assert not {*NAMING_TEXTS} & {*selected.schema.names}
    assert "metadata_text" in selected.schema.names
    _, videos = _selected(_redact(segment_id="hash"), PEOPLE, {"preview_segment_id": "seg_1"}, table="videos")
    _, segments = _selected(_redact(segment_id="hash"), PEOPLE, {"segment_id": "seg_1"})
    assert videos.to_pylist()[0]["preview_segment_id"] == segments.to_pylist()[0]["segment_id"]


def test_metadata_as_a_whole_is_redacted():
    answer = {"mood": "calm"}
    _, selected = _selected(_redact(metadata="hash"), PEOPLE, {"metadata": answer})
    (text,) = _json_metadata(_redact(metadata="hash"), PEOPLE, answer)
    assert selected.to_pylist()[0]["metadata"] == text
    assert len(text) == 64
    _, selected = _selected(_redact(metadata="drop"), PEOPLE, {"metadata": answer})
    assert "metadata" not in selected.schema.names


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ContentOptions(fields=Fields(exclude=("index_id",))), "'index_id', which every file has"),
        (_redact(prompt_run_id="hash"), "'prompt_run_id', which every file has"),
        (ContentOptions(fields=Fields(exclude=("absent",))), "tells null from absent"),
        (_redact(rescued="hash"), "can only be left out"),
        (_redact(rescued__x="drop"), "only `rescued` as a whole"),
        (
            ContentOptions(fields=Fields(include=("metadata.a",), exclude=("metadata",))),
            "which fields.exclude leaves out",
        ),
        (ContentOptions(fields=Fields(include=("index_id[]",))), "has no fields in it"),
        (ContentOptions(fields=Fields(include=())), "nothing would be delivered"),
        (ContentOptions(fields=Fields(exclude=("metadata..a",))), "two dots"),
        (_redact(metadata__Name="hash", metadata__name="mask"), "takes no notice of case"),
        (ContentOptions(redact={"metadata.a": "hash", 'metadata."a"': "mask"}), "are the same field"),
    ],
)
def test_a_choice_that_cannot_be_carried_out_is_refused(options, sentence):
    with pytest.raises(SelectionError, match=sentence):
        Selection(options, KEY)


def test_everything_that_is_wrong_with_a_choice_is_said_at_once():
    options = ContentOptions(fields=Fields(exclude=("a[0]", "index_id")), redact={"": "drop"})
    with pytest.raises(SelectionError) as refused:
        Selection(options)
    assert str(refused.value).count("\n") == 3


def test_hashing_needs_a_key():
    with pytest.raises(CredentialsError, match="no key"):
        Selection(_redact(metadata__mood="hash"))


def test_nothing_chosen_changes_nothing():
    column = table_of("segments", PEOPLE).column
    batch = Table("segments", column).batch([{"metadata": {"x": 1}}], RUN)
    selection = Selection(ContentOptions())
    assert not selection.changes(column)
    assert selection.apply(batch, column) is batch
    assert selection.column(column) is column


def _bytes(batch):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


SECRET_SCHEMA = _object(
    name={"type": "string"},
    number={"type": "integer"},
    tags={"type": "array", "items": {"type": "string"}},
    people={
        "type": "array",
        "items": _object(
            name={"type": ["string", "null"]}, home=_object(city={"type": "string"}), age={"type": "integer"}
        ),
    },
    anything={},
    shot=_object(type={"type": "string"}, who={"type": "string"}),
    kept={"type": "string"},
)
SECRET_PATHS = (
    *("metadata.name", "metadata.number", "metadata.tags[]", "metadata.people[].name", "metadata.people[].home.city"),
    *("metadata.anything.who[].name", "metadata.shot.who", "metadata.undeclared.deep", "video_name"),
)


@pytest.mark.parametrize("method", ["drop", "hash", "mask"])
def test_no_redacted_value_is_anywhere_in_what_is_delivered(method):
    planted = []

    def secret():
        planted.append(f"<secret {len(planted)}>")
        return planted[-1]

    person = {"name": secret(), "home": {"city": secret()}, "age": 5}
    texts = {name: secret() for name in (*ANSWER_TEXTS, *ERROR_TEXTS, *NAMING_TEXTS)}
    answers = [
        {"name": secret(), "tags": [secret(), secret()], "people": [person], "shot": {"who": secret(), "type": "a"}},
        {"Name": secret(), "NAME": secret(), "name": [secret(), {"x": secret()}], "number": secret()},
        {"name": {secret(): secret()}, "tags": secret(), "TAGS": [secret()], "Tags": {"a": secret()}},
        {"people": secret()},
        {"people": {"name": secret()}},
        {"people": [secret(), [secret()], {"name": {"first": secret()}, "NAME": secret(), "home": secret()}]},
        {"people": [{"home": {"city": [secret()], "City": secret()}, "Home": {"CITY": secret()}}, None]},
        {"People": [{"name": secret()}], "PEOPLE": secret()},
        {"anything": {"who": [{"name": secret(), "age": 1}]}},
        {"anything": secret()},
        {"anything": [secret()]},
        {"anything": {"who": secret()}},
        {"Anything": {"WHO": [{"Name": secret()}, secret()]}},
        {"shot": [secret()], "Shot": {"Who": secret()}},
        {"shot": secret()},
        {"undeclared": {"deep": secret()}},
        {"undeclared": secret(), "Undeclared": {"DEEP": secret()}},
        {"undeclared": [secret()]},
    ]  # fmt: skip
    documents = [{"metadata": answer, **texts, "video_name": secret(), "kept_field": secret()} for answer in answers]
    documents[0] |= {"Video_Name": secret(), "Metadata": {"name": secret()}, "video_id": "kept id"}
    documents[1] |= {"video_name": [secret()], "kept": "kept value"}
    documents[1]["metadata"]["kept"] = "kept value"
    assert len(planted) >= 50
    options = ContentOptions(redact=dict.fromkeys(SECRET_PATHS, method))
    selection = Selection(options, KEY)
    for table in ("segments", "videos"):
        column = table_of(table, SECRET_SCHEMA).column
        batch = Table(table, column).batch(documents, RUN)
        selected = selection.apply(batch, column)
        answers_left = selection.answers(answers_of(documents), batch, column)
        shown = [selection.document(document, column) for document in documents]
        delivered = _bytes(selected) + _bytes(pa.record_batch([answers_left], ["metadata"])) + repr(shown).encode()
        assert [text for text in planted if text.encode() in delivered] == []
        assert b"kept value" in delivered
        assert b"kept id" in delivered
        assert selected.num_rows == len(documents)
