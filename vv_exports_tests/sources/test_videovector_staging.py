"""Answers on the stage, and results of which only the names are decoded."""

import pytest

from vv_exports.domain.json_text import decode, encode_line, members_in, members_of
from vv_exports.sources.videovector_answers import Answer, Asked, StagedAnswers
from vv_exports.sources.videovector_records import clean, clean_members, head_of


class Shelf:
    """A stage in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def names(self) -> set[str]:
        return set(self.files)

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, data: bytes) -> None:
        self.files[name] = data


ANSWERS = {
    Asked("segments", "vid_1"): Answer([b'{"segment_id":"a"}', b'{"segment_id":"\\n"}'], "c_2"),
    Asked("segments", "vid_1", "c_2"): Answer([b'{"segment_id":"b"}']),
    Asked("segments", "v\n\ud800\u2028é", "c/?"): Answer([], "\ud800"),
    Asked("videos", "vid_1"): Answer([b"{}"]),
    Asked("videos", "vid_2"): Answer([]),
}


def staged(shelf: Shelf) -> StagedAnswers:
    answers = StagedAnswers(shelf, 2**20)
    answers.find()
    return answers


def test_answers_are_there_before_they_are_written_and_after_and_for_who_comes_later():
    shelf = Shelf()
    answers = staged(shelf)
    for asked, answer in ANSWERS.items():
        answers.add(asked, answer)
    assert {asked: answers.get(asked) for asked in ANSWERS} == ANSWERS
    assert answers.unwritten_bytes == sum(answer.size for answer in ANSWERS.values())
    assert answers.write()
    assert not answers.write()
    assert answers.unwritten_bytes == 0
    assert len(shelf.files) == 1
    for one in (answers, staged(shelf)):
        assert {asked: one.get(asked) for asked in ANSWERS} == ANSWERS
        assert all(map(one.has, ANSWERS))
        assert one.get(Asked("videos", "vid_3")) is None


def test_the_newer_answer_to_a_request_is_the_one():
    shelf = Shelf()
    answers = staged(shelf)
    asked = Asked("videos", "vid_1")
    for number in range(3):
        answers.add(asked, Answer([b"%d" % number]))
        assert answers.get(asked) == Answer([b"%d" % number])
        if number:
            answers.write()
    assert answers.get(asked) == Answer([b"2"])
    assert answers.unwritten_bytes == 0


def test_an_empty_answer_is_to_be_written_too():
    answers = staged(Shelf())
    assert not answers.has_unwritten
    answers.add(Asked("videos", "v"), Answer([]))
    assert answers.has_unwritten
    assert answers.write()
    assert not answers.has_unwritten


def test_many_answers_are_several_files():
    shelf = Shelf()
    answers = staged(shelf)
    large = {Asked("segments", f"vid_{i}"): Answer([b'"%d"' % i + b" " * 300_000]) for i in range(40)}
    for asked, answer in large.items():
        answers.add(asked, answer)
    while answers.write():
        pass
    assert len(shelf.files) == 10
    again = staged(shelf)
    assert {asked: again.get(asked) for asked in large} == large


@pytest.mark.parametrize("cut", [0, 1, 30, -1, -10])
def test_what_is_cut_off_or_of_another_kind_is_as_good_as_none(cut):
    shelf = Shelf()
    answers = staged(shelf)
    answers.add(Asked("videos", "vid_1"), ANSWERS[Asked("videos", "vid_1")])
    answers.write()
    (name,) = shelf.files
    shelf.files[name] = shelf.files[name][:cut]
    shelf.files["0" * 32 + ".jsonl.zst"] = b"another"
    assert staged(shelf).get(Asked("videos", "vid_1")) is None


LINK = "see https://user@x.test/a?token=secret#b"
DOCUMENTS = [
    {"segment_id": "s", "metadata": {"link": LINK}, "metadata_text": LINK, "error_message": LINK},
    {"segment_uri": LINK, "marker": {"a": 1}, "my_markers": 1, "fresh": [{"deep": LINK}], "harmless": {"a": [None]}},
    {"gcs_uri": "gs://bucket/x?y", "field_extraction_error": None, "transcription_error": 5, "embedding_error": "\n"},
    {"video_id": None, "start_time": 1.5, "metadata": None, "metadata_text": None, "run_id": "r"},
    {},
]


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("escaped", [False, True], ids=["as it is", "with escapes"])
def test_a_result_of_which_only_names_are_decoded_is_cleaned_as_one_that_is_decoded(document, escaped):
    text = encode_line(document)
    if escaped:
        text = text.replace(b"://", b":\\/\\/").replace(b"https", b"\\u0068ttps")
    members = members_in(text)
    clean_members(members)
    decoded = decode(text)
    clean(decoded)
    assert decode(encode_line(members)) == decoded
    assert encode_line(members_of(decoded)) == encode_line(decoded)
    assert b"secret" not in b"".join(bytes(text) for name, text in members.items() if not name.startswith("metadata"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_is_looked_at_of_a_result_says_what_is_wrong_with_it(document):
    head = head_of(members_of(document))
    for name in ("segment_id", "video_id", "run_id", "start_time"):
        assert head.get(name) == document.get(name)
    for name in ("metadata", "metadata_text"):
        assert type(head.get(name)) is type(document.get(name))


@pytest.mark.parametrize(
    "text", [b'{"a":\n1}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":NaN}', b'{"a":01}', b"[]", b'{"a":1} {}', b""]
)
def test_what_may_be_more_than_members_in_one_line_is_left_to_the_decoder_of_everything(text):
    with pytest.raises(ValueError):  # noqa: PT011
        members_in(text)


def test_members_are_as_they_were_written():
    members = members_in(b'{ "a" : 1.50 , "b":[1, 2],"a":1e5}\n')
    assert encode_line(members) == b'{"a":1e5,"b":[1, 2]}'
