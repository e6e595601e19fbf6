"""What WebVTT files promise, by a parser of somebody else; ``test_browser.py`` asks a browser."""

import html
import json
import re

import pytest
import webvtt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vv_exports.errors import DeliveredDataError, SourceDataError
from vv_exports.formats.videos import CUES, Video, possible, rows_of_cues
from vv_exports.formats.webvtt import WebVtt

VIDEO = Video("vid --> 1", "a --> b\n\nc")
PIECES = ["\n", "\r", "\r\n", "-->", "--", ">", "<", "&", "&lt;", "<c></c>", "NOTE", " ", "\t", "\x00", "\u2028", "a"]
HOSTILE = st.text(st.characters(codec="utf-8"), max_size=12) | st.lists(st.sampled_from(PIECES), max_size=8).map(
    "".join
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes a file of cues."""
    path = tmp_path_factory.mktemp("vtt") / "x.vtt"

    def write(kind, rows):
        with WebVtt(kind, VIDEO).open(path, CUES) as writer:
            writer.write(rows_of_cues(rows))
        return path

    return write


def cue(start=0.0, end=1.0, **fields):
    return {"segment_id": "seg", "start_time": start, "end_time": end, "text": "text", "document": "{}", **fields}


def parsed(path):
    """By webvtt-py, which takes no cue that the specification does not."""
    return webvtt.WebVTT.from_string(path.read_bytes().decode(), strict=True).captions


def times(path):
    return [(one.start, one.end) for one in parsed(path)]


def shown(caption):
    """The text of a cue, tags left out and references resolved."""
    return html.unescape(re.sub("<[^>]*>", "", caption.raw_text))


def as_parsed(text):
    return possible(re.sub("\r\n?", "\n", text))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(HOSTILE, max_size=4), ids=st.lists(HOSTILE, max_size=4))
@example(texts=["a\n\n\nb", "\n", "x\n", "\nx"], ids=["NOTE x", "STYLE", "REGION", "1 --> 2"])
def test_hostile_text_and_ids_come_back_from_another_parser_and_from_ours(written, texts, ids):
    rows = [cue(n, n + 1, text=text, segment_id=(ids + [""] * 4)[n]) for n, text in enumerate(texts)]
    path = written("captions", rows)
    expected = [(row["segment_id"], as_parsed(row["text"])) for row in rows if possible(row["text"]).strip()]
    assert [shown(one) for one in parsed(path)] == [text for _, text in expected]
    read = [row for batch in WebVtt("captions").read(path, CUES) for row in batch.to_pylist()]
    assert [(row["segment_id"] or "", row["text"]) for row in read] == [(possible(one), text) for one, text in expected]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(HOSTILE, HOSTILE | st.none() | st.integers(), max_size=3), max_size=3))
def test_documents_come_back_from_cues_of_metadata(written, documents):
    rows = [cue(document=json.dumps(one, ensure_ascii=False)) for one in documents]
    path = written("metadata", rows)
    assert [json.loads(one.raw_text) for one in parsed(path)] == documents
    read = [row["document"] for batch in WebVtt("metadata").read(path, CUES) for row in batch.to_pylist()]
    assert [json.loads(one) for one in read] == documents


def test_what_the_file_says_of_its_video_ends_no_comment(written):
    path = written("captions", [cue()])
    said = json.loads(path.read_text().split("\n")[2].removeprefix("NOTE "))
    assert (said["video_id"], said["video_name"]) == ("vid --> 1", "a --> b\n\nc")
    assert len(parsed(path)) == 1


def test_hours_go_on_after_a_day(written):
    assert times(written("captions", [cue(359_999.9994, 360_000)])) == [("99:59:59.999", "100:00:00.000")]


@pytest.mark.parametrize(
    ("start", "end", "until"),
    [(5, 5, "00:00:05.001"), (5, None, "00:00:05.001"), (5, 4, "00:00:05.001"), (5.0004, 5.0004, "00:00:05.001")],
)
def test_a_cue_lasts_a_thousandth_of_a_second_at_least(written, start, end, until):
    assert times(written("captions", [cue(float(start), end and float(end))])) == [("00:00:05.000", until)]


def test_cues_may_overlap(written):
    path = written("captions", [cue(0.0, 10.0), cue(0.0, 3.0), cue(2.5, 3.0)])
    assert times(path) == [
        ("00:00:00.000", "00:00:10.000"), ("00:00:00.000", "00:00:03.000"), ("00:00:02.500", "00:00:03.000"),
    ]  # fmt: skip


def test_a_chapter_has_a_title_of_one_line_and_what_has_no_text_has_no_cue(written):
    path = written("chapters", [cue(text="Intro:\n\n a & b\t"), cue(text=" \n"), cue(text=None)])
    assert [one.raw_text for one in parsed(path)] == ["Intro: a &amp; b"]
    assert parsed(written("captions", [cue(text=" \n"), cue(text=None)])) == []


@pytest.mark.parametrize("start", [None, -0.001])
def test_a_segment_without_a_place_is_refused(written, start):
    with pytest.raises(SourceDataError, match=r"the segment 'seg' begins at .*: it has no place in its video"):
        written("captions", [cue(start)])


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda text: text.replace(b"WEBVTT", b"\xef\xbb\xbfWEBVTT"), "does not begin like a webvtt file of ours"),
        (lambda text: text.replace(b"00:00:00.000 -->", b"0 -->"), "a cue without times"),
        (lambda text: text.replace(b"text", b"\xff"), "is not UTF-8"),
        (lambda text: text.replace(b'{"cues', b"{cues"), "a note that is not of ours"),
        (lambda text: text.replace(b'"cues":1', b'"cues":2'), "it was cut off"),
    ],
)
def test_a_file_that_somebody_changed_is_refused(written, edit, problem):
    path = written("captions", [cue()])
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(DeliveredDataError, match=f"{problem}.*Deliver again"):
        list(WebVtt("captions").read(path, CUES))
