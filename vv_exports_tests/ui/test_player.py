"""A browser plays a clip with a WebVTT file of ours as its track, and its own parser tells what is in it."""

import base64
import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from vv_exports.formats.videos import CUES, Video, possible, rows_of_cues
from vv_exports.formats.webvtt import WebVtt
from vv_exports_tests.test_docs import ROOT, blocks
from vv_exports_tests.ui.chromium import opened

pytestmark = pytest.mark.slow

HOSTILE = [
    "plain",
    "a --> b & <b>c</b> &lt; &amp;nbsp;",
    "one\n\n\ntwo",
    "\nbegins and ends with a line end\n",
    "NOTE not a comment",
    "00:00:01.000 --> 00:00:02.000",
    "\u202eright to left\u202c \u2028 \U0001f3ac e\u0301 \x00 \x0b",
    "</c><c></c>\\n'\"\t<00:00:01.000>",
    "last",
]
IDS = ["seg", "NOTE", "STYLE", "REGION x", "1", "a --> b", "%2F %", " ", "seg last"]
CLIP = """async () => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const paint = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(20), {mimeType: "video/webm"});
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const over = new Promise((done) => { recorder.onstop = done; });
  recorder.start();
  for (let n = 0; n < 24; n++) {
    paint.fillStyle = `rgb(${n * 10}, 0, 0)`;
    paint.fillRect(0, 0, 32, 32);
    await new Promise((done) => setTimeout(done, 50));
  }
  recorder.stop();
  await over;
  const whole = new Blob(parts, {type: "video/webm"});
  window.clip = URL.createObjectURL(whole);
  return btoa(String.fromCharCode(...new Uint8Array(await whole.arrayBuffer())));
}"""
PLAY = """async ([text, kind]) => {
  const video = document.createElement("video");
  video.src = window.clip;
  video.muted = true;
  const track = document.createElement("track");
  track.kind = kind;
  track.default = true;
  track.src = URL.createObjectURL(new Blob([text], {type: "text/vtt"}));
  const seen = new Set();
  const loaded = new Promise((done, failed) => { track.onload = done; track.onerror = () => failed("track"); });
  video.append(track);
  document.body.append(video);
  track.track.mode = "hidden";
  track.track.oncuechange = () => { for (const cue of track.track.activeCues) seen.add(cue.startTime); };
  await loaded;
  await video.play();
  const ended = new Promise((done) => { video.onended = done; });
  await Promise.race([ended, new Promise((done) => setTimeout(done, 10000))]);
  const cues = [...track.track.cues].map((cue) => ({
    id: cue.id, start: cue.startTime, end: cue.endTime, raw: cue.text, text: cue.getCueAsHTML().textContent,
  }));
  return {cues, seen: [...seen], ended: video.ended};
}"""


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Page, bytes]]:
    """A page that has recorded a clip of about a second, and the clip."""
    with sync_playwright() as playwright, opened(playwright) as page:
        yield page, base64.b64decode(page.evaluate(CLIP))


@pytest.fixture
def page(recorded) -> Page:
    return recorded[0]


def played(page, tmp_path, kind, rows):
    path = tmp_path / "x.vtt"
    with WebVtt(kind, Video("vid --> 1", "name\n\nNOTE")).open(path, CUES) as writer:
        writer.write(rows_of_cues(rows))
    return page.evaluate(PLAY, [path.read_bytes().decode(), kind])


def test_a_browser_shows_hostile_captions_as_they_were(page, tmp_path):
    rows = [
        {"segment_id": IDS[n], "start_time": n / 10, "end_time": n / 10 + 0.2, "text": text}
        for n, text in enumerate(HOSTILE)
    ]
    rows.append({"segment_id": "late", "start_time": 90_000.0, "end_time": 90_000.0, "text": "after a day"})
    found = played(page, tmp_path, "captions", rows)
    assert [one["text"] for one in found["cues"]] == [*map(possible, HOSTILE), "after a day"]
    assert [one["start"] for one in found["cues"]] == [row["start_time"] for row in rows]
    assert (found["cues"][-1]["end"], found["cues"][0]["id"], found["cues"][-1]["id"]) == (90_000.001, "seg", "late")
    assert found["ended"]
    assert {0, 0.1, 0.5} <= set(found["seen"])


def test_a_program_in_the_page_reads_results_of_cues_of_metadata(page, tmp_path):
    documents = [{"t": text, "id": IDS[n]} for n, text in enumerate(HOSTILE)]
    rows = [
        {"segment_id": IDS[n], "start_time": n / 10, "end_time": n / 10 + 0.1, "document": json.dumps(one)}
        for n, one in enumerate(documents)
    ]
    found = played(page, tmp_path, "metadata", rows)
    assert [json.loads(one["raw"]) for one in found["cues"]] == documents


def test_chapters_have_their_titles(page, tmp_path):
    rows = [{"segment_id": None, "start_time": float(n), "end_time": n + 1.0, "text": f"<{n}> &\n"} for n in range(3)]
    found = played(page, tmp_path, "chapters", rows)
    assert [one["text"] for one in found["cues"]] == ["<0> &", "<1> &", "<2> &"]


def test_the_page_of_the_documentation_shows_captions_and_its_script_reads_results(recorded, tmp_path):
    (html,) = (one.text for one in blocks(ROOT / "docs/video-formats.md") if one.language == "html")
    (script,) = (one.text for one in blocks(ROOT / "docs/video-formats.md") if one.language == "js")
    document = json.dumps({"metadata": {"mood": "calm"}})
    path, rows = tmp_path / "x.vtt", [{"start_time": 0.0, "end_time": 60.0, "text": "one & two", "document": document}]
    page = recorded[0].context.browser.new_page()
    page.route("**/interview.webm", lambda route: route.fulfill(body=recorded[1], content_type="video/webm"))
    page.route("**/interview.vtt", lambda route: route.fulfill(body=path.read_bytes(), content_type="text/plain"))
    shown_page = {"html": ""}
    page.route("**/page.html", lambda route: route.fulfill(body=shown_page["html"], content_type="text/html"))
    for kind in ("captions", "metadata"):
        with WebVtt(kind, Video("vid")).open(path, CUES) as writer:
            writer.write(rows_of_cues(rows))
        made = html.replace('kind="captions"', f'kind="{kind}"') + (
            f"<script>{script}</script>" if kind == "metadata" else ""
        )
        shown_page["html"] = made
        page.goto("http://127.0.0.1:9/page.html")
        page.evaluate("document.querySelector('video').play()")
        page.wait_for_function("document.querySelector('video').textTracks[0].activeCues?.length === 1")
        shown = page.evaluate("document.querySelector('video').textTracks[0].activeCues[0].getCueAsHTML().textContent")
        assert shown == "one & two" or kind == "metadata"
    page.wait_for_function("""document.title === '[{"mood":"calm"}]'""")
    page.close()
