"""Pictures show what is there, whatever it is called, and stay small."""

import copy
import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from vv_exports.content.coverage import Coverage, Medium, Spans
from vv_exports.defs.keys import asset_key
from vv_exports.delivery.overview import CollectedRun
from vv_exports.pictures.coverage import MOST_MEDIA, coverage_picture
from vv_exports.pictures.deliveries import deliveries_picture
from vv_exports_tests.archives import segment, write_run
from vv_exports_tests.cli.running import run
from vv_exports_tests.deployments import CONFIG, client_of

HOSTILE = "]]> <script>alert('x')</script> & \" \x00\u202e{{ 7 * 7 }} Ünï"
SVG = "{http://www.w3.org/2000/svg}"


def texts(document):
    return [one.text or "" for one in ET.fromstring(document).iter(f"{SVG}text")]


def bars(document, colour):
    """Of each row of this colour, the bars as (from, to)."""
    paths = [one.get("d") for one in ET.fromstring(document).iter(f"{SVG}path") if one.get("stroke") == colour]
    return [[(int(x), int(x) + int(w)) for x, w in re.findall(r"M (-?\d+) \S+ h (-?\d+)", path)] for path in paths]


def spans(*each):
    found = Spans()
    for one in each:
        found.add(*one)
    return found


def shown(metadata, name):
    return b64decode(re.fullmatch(r"!\[.*\]\(data:image/svg\+xml;base64,(.*)\)", metadata[name].value)[1]).decode()


def materialized(client, *path):
    (record,) = client.instance.fetch_materializations(asset_key("idx", *path), limit=1).records
    return record.asset_materialization.metadata


def test_a_materialization_shows_which_parts_of_each_medium_have_results_and_which_failed(tmp_path):
    rows = [segment(n, video=video) for video in ("vid_a", "vid_b") for n in (0, 1, 3)]
    failed = [{"video_id": "vid_b", "segment_id": "seg_2", "start_time": 20.0, "end_time": 30.0}]
    rows.append(segment(9, video=HOSTILE.replace("\x00", ""), video_name=HOSTILE, start_time=None, end_time=None))
    write_run(tmp_path / "archive", segments=rows, failures=failed, total_segments=8, completed_segments=7)
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    document = shown(materialized(client, "prompt_runs"), "coverage")
    said = texts(document)
    assert "3 segments to 0:40, 1 failed" in said
    assert "3 segments to 0:40" in said
    assert "1 segment" in said
    assert any(one.startswith("]]> <script>") for one in said)
    blue, red = bars(document, "#4f43dd"), bars(document, "#d24235")
    first, *_ = blue
    assert len(first) == 2, "0 to 20 s and 30 to 40 s, of the medium with the failure, which is first"
    assert red[0] == [(first[0][1], first[1][0])]


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1e308, 1e308), (-20.0, -10.0), (-10.0, 10.0), (1e308, 1.7e308), (5e-324, 5e-324), (30.0, 10.0), (0.0, 1.7e308)],
)
def test_times_that_no_clock_has_are_drawn_within_the_picture_and_delivered(tmp_path, start, end):
    rows = [segment(0), segment(1, start_time=start, end_time=end)]
    write_run(tmp_path / "archive", segments=rows)
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    document = shown(materialized(client, "prompt_runs"), "coverage")
    assert "2 segments" in " ".join(texts(document))
    assert all(190 <= begin < until <= 571 for row in bars(document, "#4f43dd") for begin, until in row)


def test_what_no_automation_may_show_is_in_no_picture(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["indexes"]["idx"]["automations"]["team"]["redact"] = {"video_name": "mask", "video_id": "drop"}
    write_run(tmp_path / "archive", segments=[segment(0, video="secret_id", video_name="secret name")])
    client = client_of(tmp_path, config)
    client.automations.run("idx", "team")
    for document in (shown(materialized(client, "prompt_runs"), "coverage"), client.automations.report("idx", "team")):
        assert "secret" not in document


@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_a_million_segments_stay_below_100_kilobytes(gap):
    many = spans(*((n, n + 1 - gap) for n in range(100_000)))
    media = [Medium("name " * 20, 1_000_000, 1_000_000, many, many)] * MOST_MEDIA
    document = coverage_picture(Coverage(media, 1_000_000))
    assert len(document) < 70_000, "in base64"
    assert bars(document, "#4f43dd")[0][0][0] == 190
    assert bars(document, "#4f43dd")[0][-1][1] == 570


@pytest.mark.parametrize(
    "media", [[], [Medium("still")], [Medium(None, 1, 0, spans((0, 0)))], [Medium("a", 1, 0, spans((1e12, 2e12)))]]
)
def test_media_without_a_length_and_endless_ones_are_drawn(media):
    assert ET.fromstring(coverage_picture(Coverage(media, 0))).tag == f"{SVG}svg"


@pytest.mark.parametrize("days", [[0], [0, 0, 400], [-5]])
@pytest.mark.parametrize("rows", [0, 1, 10**9])
def test_deliveries_are_drawn_whenever_they_were_and_however_large(days, rows):
    now = datetime(2026, 11, 1, tzinfo=UTC)
    runs = [
        CollectedRun(f"run_{n}", "prm", "completed", 1, {"segments": rows}, 1, 9, now - timedelta(days=day), n)
        for n, day in enumerate(days)
    ]
    document = deliveries_picture(runs, now)
    assert f"{rows * len(days):,} row" in texts(document)[0]
    assert len(list(ET.fromstring(document).iter(f"{SVG}rect"))) == 1 + len(set(days))
    assert len(document) < 20_000


def test_the_collection_is_shown_with_what_was_delivered_last_and_mailed_as_one_page(tmp_path):
    write_run(tmp_path / "archive", run_id="run_1")
    write_run(tmp_path / "archive", run_id="run_2", prompt_id=HOSTILE.replace("\x00", ""))
    client = client_of(tmp_path)
    client.automations.run("idx", "team")
    metadata = materialized(client, "exports", "team")
    assert [record.data["prompt_run"] for record in metadata["collection"].records] == ["run_1", "run_2"]
    assert metadata["collected_prompt_runs"].value == 2
    assert "2 prompt runs, 6 rows" in texts(shown(metadata, "deliveries"))[0]
    found = run(tmp_path, "report", "idx", "team", "--to", str(tmp_path / "report.html"))
    assert found.code == 0
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert 'src="http' not in page
    assert run(tmp_path, "report", "idx", "team", "--to", str(tmp_path / "no/such/folder.html")).code == 2
    assert "Nothing was delivered yet" in client.automations.report("idx", "held")
