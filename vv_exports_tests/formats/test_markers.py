"""Markers of editors: the same frames in the three files, by OpenTimelineIO, its CMX 3600 adapter and an XML parser.

OpenTimelineIO's FCPX adapter takes whole frame rates alone (29.97 is 29 to it), and is asked for these.
"""

import json
import re
from fractions import Fraction
from itertools import pairwise
from xml.etree import ElementTree as ET

import opentimelineio as otio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vv_exports.domain.content_options import VideoTiming
from vv_exports.domain.frame_rates import FRAME_RATES
from vv_exports.errors import DeliveredDataError, RequestError
from vv_exports.formats.edl import Edl
from vv_exports.formats.fcpxml import FcpXml
from vv_exports.formats.otio import Otio
from vv_exports.formats.videos import CUES, Video, possible, rows_of_cues

TIMINGS = [
    ("23.976", "01:00:00:00"),
    ("24", "00:00:00:00"),
    ("25", "10:00:00:00"),
    ("29.97", "00:59:50;00"),
    ("29.97", "01:00:00:00"),
    ("30", "00:00:00:00"),
    ("50", "00:00:00:00"),
    ("59.94", "00:08:59;58"),
    ("59.94", "00:00:00:00"),
    ("60", "23:59:59:59"),
]
FRAMES = (0, 1, 2, 7, 29, 30, 59, 60, 61, 299, 1798, 1799, 1800, 17_981, 17_982, 35_963, 35_964, 215_784, 1_078_919)
"""Those around the numbers that drop-frame leaves out, and some after a minute, ten, and hours."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("markers")


def files(folder, rows, rate, start, **video):
    """The otio, edl and fcpxml files of rows."""
    made = []
    for kind in (Otio, Edl, FcpXml):
        fmt = kind(Video(**{"video_id": "vid", "name": "A video.mp4", **video}, timing=VideoTiming(rate, start)))
        made.append(folder / f"x{fmt.suffix}")
        with fmt.open(made[-1], CUES) as writer:
            writer.write(rows_of_cues(rows))
    return made


def row(start, end=None, **fields):
    end = start if end is None else end
    return {"segment_id": "seg", "start_time": start, "end_time": end, "text": "text", "document": "{}", **fields}


def frames_of_timecode(timecode, rate):
    """The frame that a timecode names, counted one by one: written apart from the library."""
    hours, minutes, seconds, frames = map(int, re.split("[:;]", timecode))
    whole = round(FRAME_RATES[rate])
    number = ((hours * 60 + minutes) * 60 + seconds) * whole + frames
    if ";" in timecode:
        all_minutes = hours * 60 + minutes
        number -= (all_minutes - all_minutes // 10) * (whole // 15)
    return number


def in_otio(path):
    (clip,) = otio.adapters.read_from_file(str(path)).find_clips()
    start = clip.source_range.start_time
    return start, [(one.marked_range.start_time - start, one.marked_range.duration) for one in clip.markers]


def in_edl(path, rate):
    """The first frame of each event, and the duration in its comment."""
    clips = otio.adapters.read_from_file(str(path), rate=float(FRAME_RATES[rate])).find_clips()
    return [(int(one.source_range.start_time.value), _duration(one)) for one in clips]


def _duration(clip):
    return int(re.search(r"\|D:(\d+)", clip.metadata["cmx_3600"]["comments"][0])[1])


def in_fcpxml(path, rate):
    """In frames from 0: a time that is no whole frame is not one."""
    root = ET.parse(path).getroot()
    clip = root.find(".//asset-clip")
    start = _frames(clip.get("start"), rate)
    return start, [(_frames(one.get("start"), rate) - start, _frames(one.get("duration"), rate)) for one in clip]


def _frames(seconds, rate):
    frames = Fraction(seconds.removesuffix("s")) * FRAME_RATES[rate]
    assert frames.denominator == 1
    return int(frames)


@pytest.mark.parametrize(("rate", "start"), TIMINGS)
@pytest.mark.parametrize("digits", [3, 17], ids=["to the thousandth", "as doubles"])
def test_every_file_has_the_frames_that_the_times_were_made_of(folder, rate, start, digits):
    exact = FRAME_RATES[rate]
    rows = [row(round(float(n / exact), digits), round(float((n + 3) / exact), digits)) for n in FRAMES]
    an_otio, an_edl, a_fcpxml = files(folder, rows, rate, start)
    first, markers = in_otio(an_otio)
    first_frame = frames_of_timecode(start, rate)
    assert (first.value, first.rate) == (first_frame, float(exact))
    assert [(int(begins.value), int(lasts.value)) for begins, lasts in markers] == [(n, 3) for n in FRAMES]
    a_day = frames_of_timecode("23:59:59" + (";" if ";" in start else ":") + f"{round(exact) - 1}", rate) + 1
    assert in_edl(an_edl, rate) == [((first_frame + n) % a_day, 3) for n in FRAMES]
    assert in_fcpxml(a_fcpxml, rate) == (first_frame, [(n, 3) for n in FRAMES])


def test_drop_frame_leaves_out_the_numbers_that_the_standard_leaves_out(folder):
    rows = [row(float(n / FRAME_RATES["29.97"])) for n in (1799, 1800, 17_981, 17_982)]
    _, an_edl, a_fcpxml = files(folder, rows, "29.97", "00:00:00;00")
    events = [line for line in an_edl.read_text().splitlines() if re.match(r"\d{3} ", line)]
    assert [line.split()[4] for line in events] == ["00:00:59;29", "00:01:00;02", "00:09:59;29", "00:10:00;00"]
    assert "FCM: DROP FRAME" in an_edl.read_text()
    assert 'tcFormat="DF"' in a_fcpxml.read_text()


@pytest.mark.parametrize("rate", ["25", "50"])
def test_the_fcpx_adapter_reads_the_markers_of_a_whole_rate(folder, rate):
    *_, path = files(folder, [row(1.0, 2.0, text="one"), row(3.0, 3.0, text="two & three")], rate, "00:00:10:00")
    (clip,) = otio.adapters.read_from_file(str(path), adapter_name="fcpx_xml").find_clips()
    found = [(one.name, one.marked_range.start_time.to_seconds()) for one in clip.markers]
    assert found == [("one", 11.0), ("two & three", 13.0)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=3),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
@example(["a\x00b\r\n|M:x |D:9", "<&\"'>\ufffe\x0b", ""], '|"<\n\x01\x00')
def test_hostile_text_breaks_no_file_and_documents_come_back(folder, texts, name):
    documents = [json.dumps({"t": text, "n": 2**70}, ensure_ascii=False) for text in texts]
    rows = [
        row(float(n), text=text, note=text[::-1], document=document, segment_id=text)
        for n, (text, document) in enumerate(zip(texts, documents, strict=True))
    ]
    an_otio, an_edl, a_fcpxml = files(folder, rows, "25", "00:00:00:00", video_id=name, name=name or None)
    read = [one["document"] for batch in Otio().read(an_otio, CUES) for one in batch.to_pylist()]
    assert read == documents
    assert in_edl(an_edl, "25") == [(n * 25, 1) for n in range(len(texts))]
    assert [begins for begins, _ in in_fcpxml(a_fcpxml, "25")[1]] == [n * 25 for n in range(len(texts))]
    notes = [one.comment for one in next(iter(otio.adapters.read_from_file(str(an_otio)).find_clips())).markers]
    assert notes == [possible(text[::-1]) for text in texts]


def test_names_are_in_one_line_and_what_begins_a_field_of_an_edl_is_not_in_them(folder):
    an_otio, an_edl, a_fcpxml = files(folder, [row(0.0, text="one |M:\n two", note="a\nb")], "25", "00:00:00:00")
    assert "a b |C:ResolveColorBlue |M:one /M: two |D:1" in an_edl.read_text().splitlines()
    marker = ET.parse(a_fcpxml).find(".//marker")
    assert (marker.get("value"), marker.get("note")) == ("one |M: two", "a\nb")
    (clip,) = otio.adapters.read_from_file(str(an_otio)).find_clips()
    assert [(one.name, one.comment) for one in clip.markers] == [("one |M: two", "a\nb")]


@pytest.mark.parametrize("note", ["1 A V C 1 2 3 4", "TITLE: x", "* LOC: y", "M2 x", "001"])
def test_a_note_is_not_taken_for_a_line_of_the_list(folder, note):
    _, an_edl, _ = files(folder, [row(0.0, note=note)], "25", "00:00:00:00")
    assert f"- {note} |C:ResolveColorBlue |M:text |D:1" in an_edl.read_text().splitlines()
    assert in_edl(an_edl, "25") == [(0, 1)]


def test_after_a_day_timecode_begins_anew(folder):
    _, an_edl, a_fcpxml = files(folder, [row(1.0)], "25", "23:59:59:00")
    assert "00:00:00:00 00:00:00:01" in an_edl.read_text()
    assert in_fcpxml(a_fcpxml, "25") == (24 * 3600 * 25 - 25, [(25, 1)])


def test_a_segment_without_text_is_called_by_its_id(folder):
    an_otio, _, _ = files(folder, [row(0.0, text=None)], "25", "00:00:00:00")
    assert [one.name for one in next(iter(otio.adapters.read_from_file(str(an_otio)).find_clips())).markers] == ["seg"]


def test_files_of_two_videos_are_never_the_same(folder):
    one, other = (
        [path.read_bytes() for path in files(folder, [row(0.0)], "25", "00:00:00:00", video_id=i)] for i in "Aa"
    )
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_a_video_of_which_nobody_said_the_rate_has_no_markers(folder):
    for kind in (Otio, Edl, FcpXml):
        with pytest.raises(ValueError, match="nothing says which frame rate and start timecode the video 'vid' has"):
            kind(Video("vid")).open(folder / "y", CUES)
    assert not (folder / "y").exists()


def test_what_is_for_editors_alone_says_where_the_results_are(folder):
    for kind in (Edl, FcpXml):
        with pytest.raises(RequestError, match="has markers alone: read the otio file beside it"):
            kind().read(folder / "x", CUES)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"OTIO_SCHEMA": "Timeline.1"}', '{"OTIO_SCHEMA": "Clip.1"}'])
def test_a_file_that_is_no_timeline_of_ours_is_refused(folder, text):
    (folder / "z.otio").write_text(text)
    with pytest.raises(DeliveredDataError, match="Deliver again"):
        list(Otio().read(folder / "z.otio", CUES))


def test_many_markers_are_in_their_order(folder):
    rows = [row(n * 0.5) for n in range(1_050)]
    _, an_edl, _ = files(folder, rows, "50", "00:00:00:00")
    numbers = [int(line.split()[0]) for line in an_edl.read_text().splitlines() if re.match(r"\d{3,} ", line)]
    assert numbers == list(range(1, 1_051))
    assert all(one < other for (one, _), (other, _) in pairwise(in_edl(an_edl, "50")))
