"""The page on captions and markers: what it configures loads, what it computes runs on files as they are delivered."""

import contextlib
import io

import pytest
import yaml

from vv_exports.config import content_options
from vv_exports.domain.content_options import VideoTiming
from vv_exports.formats.registry import formats_of_video
from vv_exports.formats.videos import CUES, Video, rows_of_cues
from vv_exports_tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs/video-formats.md"


def of(language):
    return [pytest.param(one.text, id=one.where) for one in blocks(PAGE) if one.language == language]


@pytest.mark.parametrize("text", of("yaml"))
def test_what_the_page_configures_is_a_format(text):
    options = content_options(yaml.safe_load(text)).format
    assert options.is_by_video
    if options.name == "markers":
        assert options.timing_of("vid_news_0903") == VideoTiming("29.97", "00:59:50;00")
        assert options.timing_of("another") == VideoTiming("25", "10:00:00:00")


@pytest.mark.parametrize("text", of("python"))
def test_its_recipe_reads_the_markers(text, tmp_path, monkeypatch):
    chosen = content_options({"format": {"name": "markers", "frame_rate": 25, "start_timecode": "10:00:00:00"}})
    form, *_ = formats_of_video(chosen, Video("vid", timing=chosen.format.timing_of("vid")))
    rows = [{"start_time": n + 0.04, "text": f"name {n}", "document": f'{{"segment_id": "seg_{n}"}}'} for n in range(2)]
    with form.open(tmp_path / "interview.otio", CUES) as writer:
        writer.write(rows_of_cues(rows))
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, PAGE.name, "exec"), {})
    assert printed.getvalue().splitlines() == ["10:00:00:01 name 0 seg_0", "10:00:01:01 name 1 seg_1"]
