"""Files of one video each, delivered: what holds for a table's files holds for these."""

import itertools
import json
import sys

import pytest

from vv_exports.automations.deliver import deliver_isolated
from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.content import Content
from vv_exports.delivery.deliver import deliver
from vv_exports.delivery.log import read_log
from vv_exports.delivery.reading import documents
from vv_exports.delivery.rehearsal import Rehearsal
from vv_exports.delivery.vacuum import vacuum
from vv_exports.delivery.verify import verify
from vv_exports.domain.content_options import ContentOptions, FormatOptions, VideoTiming
from vv_exports.domain.destinations import log_entry_name
from vv_exports.errors import RequestError, SelectionError, TimelineError
from vv_exports.formats.videos import CUES
from vv_exports.formats.webvtt import WebVtt
from vv_exports.reader import open_delivery
from vv_exports_tests.archives import segment
from vv_exports_tests.delivery.conftest import TEAM
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes, crashes_after
from vv_exports_tests.stores import connect, store  # noqa: F401 - fixtures

TITLES = FormatOptions("webvtt", text=("metadata.title",))
METADATA = FormatOptions("webvtt", kind="metadata")
MARKERS = FormatOptions("markers", frame_rate="25", start_timecode="01:00:00:00", text=("metadata.title",))
KEY = b"0123456789abcdef0123456789abcdef"


def request(deployment, *snapshots, options=TITLES, key=None, connector=None, subpath=TEAM, **chosen):
    content = Content(ContentOptions(options, **chosen), key)
    return deployment.request(*snapshots, content=content, connector=connector, subpath=subpath)


def give(deployment, clock, *snapshots, **chosen):
    return deliver(request(deployment, *snapshots, **chosen), deployment.store, clock)


def names(delivery):
    return [file.path.rpartition("/")[2] for file in delivery.files]


def cues(deployment, path, kind="captions"):
    whole = deployment.folder / "deliveries/exports/team" / path
    return [row for batch in WebVtt(kind).read(whole, CUES) for row in batch.to_pylist()]


def two_videos(deployment, run_id="run_1", **run):
    segments = [segment(n, video=video) for video in ("vid_1", "vid_2") for n in range(3)]
    return deployment.snapshot(run_id, segments=segments, **run)


def test_captions_are_a_file_for_each_video_that_is_found_by_its_name(deployment, clock):
    made = give(deployment, clock, two_videos(deployment))
    assert [path.rpartition("/")[0] for path in sorted({file.path for file in made.files})] == [
        "captions/prompt_id=prm/prompt_run_id=run_1"
    ] * 2
    assert [name[:18] for name in names(made)] == ["Video_vid_1-vid_1-", "Video_vid_2-vid_2-"]
    assert [(file.table, file.rows) for file in made.files] == [("segments", 3)] * 2
    found = cues(deployment, made.files[0].path)
    assert [(one["segment_id"], one["start_time"], one["text"]) for one in found] == [
        (f"seg_{n:05}", n * 10.0, f"Scene {n}") for n in range(3)
    ]


def test_delivering_again_writes_nothing_and_what_changed_is_superseded(deployment, clock):
    first = give(deployment, clock, two_videos(deployment))
    assert not give(deployment, clock, deployment.read("run_1")).committed
    changed = [segment(n, video="vid_1") for n in range(3)] + [segment(9, video="vid_2")]
    again = give(deployment, clock, deployment.snapshot("run_1", segments=changed))
    assert names(again)[0] == names(first)[0]
    assert again.removed == (first.files[1].path,)
    assert {path for path in deployment.files() if path.endswith(".vtt")} == {file.path for file in again.files}


def test_content_that_returns_gets_another_path_since_the_old_one_may_still_be_deleted(deployment, clock):
    first = give(deployment, clock, two_videos(deployment))
    give(deployment, clock, deployment.snapshot("run_1", segments=1))
    back = give(deployment, clock, two_videos(deployment))
    assert [one.sha256 for one in back.files] == [one.sha256 for one in first.files]
    assert [name[:18] for name in names(back)] == ["Video_vid_1-vid_1-", "Video_vid_2-vid_2-"]
    assert not set(names(back)) & set(names(first))
    assert not verify(deployment.destination()).problems


@pytest.mark.parametrize("chosen", [TITLES, METADATA, MARKERS], ids=lambda one: f"{one.name} {one.kind}")
def test_what_was_foreseen_is_what_is_delivered(deployment, clock, chosen):
    snapshot = two_videos(deployment)
    rehearsal = Rehearsal.at(deployment.destination(), deployment.store, clock)
    foreseen = rehearsal.deliver(request(deployment, snapshot, options=chosen))
    made = give(deployment, clock, snapshot, options=chosen)
    assert foreseen.files == made.files
    assert rehearsal.estimated == set()
    assert not verify(deployment.destination()).problems


def test_documents_come_back_from_cues_of_metadata_and_from_markers(deployment, clock):
    answers = [{"title": "a --> b", "n": 2**70, "x": None}, {"title": 1.0}, {}]
    snapshot = deployment.snapshot("run_1", segments=[segment(n, metadata=one) for n, one in enumerate(answers)])
    for chosen in (METADATA, MARKERS):
        give(deployment, clock, snapshot, options=chosen)
        found = [one.document["metadata"] for one in documents(deployment.destination())]
        assert [json.dumps(one, sort_keys=True) for one in found] == [
            json.dumps(one, sort_keys=True) for one in answers
        ]


def test_captions_say_that_they_hold_no_results(deployment, clock):
    give(deployment, clock, two_videos(deployment))
    with pytest.raises(RequestError, match="captions are text for people, and hold no results: read"):
        list(documents(deployment.destination()))
    delivery = open_delivery(deployment.folder / "deliveries/exports/team")
    assert [path.endswith(".vtt") for path in delivery.files()] == [True, True]
    with pytest.raises(RequestError, match="is not Parquet"):
        delivery.dataset()


def test_rows_of_a_pack_are_counted_once(deployment, clock):
    made = give(deployment, clock, two_videos(deployment), options=MARKERS)
    assert [(name.rpartition(".")[2], file.rows) for name, file in zip(names(made), made.files, strict=True)] == [
        ("otio", 3), ("edl", 0), ("fcpxml", 0), ("otio", 3), ("edl", 0), ("fcpxml", 0),
    ]  # fmt: skip
    entry = json.loads((deployment.folder / "deliveries/exports/team" / log_entry_name(0)).read_text())
    assert entry["prompt_runs"][0]["counts"]["delivered"] == made.rows == 6


def test_videos_of_one_name_hostile_names_and_ids_that_differ_in_case_have_a_file_each(deployment, clock):
    names_of = {
        "a": "../../etc/passwd",
        "A": "../../etc/passwd",
        "b": "CON.mp4",
        "c/d": "",
        "ü": "日本語 ".strip() * 90,
    }
    names_of |= {"x" * 300: None, "e\u0301": "a\u0301\x00\n", "..": "_.hidden", "?*": '?*<>|:"', "\u202e": "\u202e"}
    segments = [segment(0, video=video, video_name=name) for video, name in names_of.items()]
    made = give(deployment, clock, deployment.snapshot("run_1", segments=segments))
    assert len({name.casefold() for name in names(made)}) == len(names_of)
    assert all(len(name.encode()) < 200 and name[0] not in "._-" for name in names(made))
    assert {path for path in deployment.files() if path.endswith(".vtt")} == {file.path for file in made.files}
    assert not verify(deployment.destination()).problems


@pytest.mark.parametrize("dies", [crashes, crashes_after])
def test_a_delivery_that_dies_at_any_call_is_completed_by_the_next(deployment, clock, dies):
    before, after = deployment.snapshot("run_1", segments=1), two_videos(deployment)
    for number in itertools.count():
        destination = deployment.destination(f"exports/{dies.__name__}/{number}")
        of = {"subpath": destination.subpath}
        deliver(request(deployment, before, **of), deployment.store, clock)
        dying = FaultyConnector(deployment.connector, {number: dies})
        try:
            deliver(request(deployment, after, connector=dying, **of), deployment.store, clock)
        except Crash:
            held = [file.path for file in read_log(destination).files]
            assert len(held) in {1, 2}, "all or nothing"
            assert {*held} <= {*destination.files()}
        made = deliver(request(deployment, after, **of), deployment.store, clock)
        assert {path for path in destination.files() if "/_vv/" not in f"/{path}"} == {one.path for one in made.files}
        if number >= dying.calls:
            break
    assert number > 8


def test_every_store_takes_the_names(deployment, clock, connect):  # noqa: F811
    """Local folders are in the claim above; names of other scripts are encoded in addresses of stores."""
    names_of = {"a": "日本語 Ünïcode", "?*": "../x", "e\u0301": "a\u0301"}
    snapshot = deployment.snapshot(
        "run_1", segments=[segment(0, video=one, video_name=names_of[one]) for one in names_of]
    )
    connector = connect()
    if not connector.decides_among_writers():
        connector.pipeline_storage = LocalConnector("storage", deployment.folder / "storage")
    made = deliver(request(deployment, snapshot, connector=connector), deployment.store, clock)
    destination = deployment.destination(connector=connector)
    assert {path for path in destination.files() if path.endswith(".vtt")} == {file.path for file in made.files}
    assert (len(made.files), verify(destination).problems) == (3, ())
    again = deployment.snapshot("run_1", segments=1)
    over = deliver(request(deployment, again, connector=connector), deployment.store, clock)
    assert set(over.removed) == {file.path for file in made.files}
    assert {path for path in destination.files() if path.endswith(".vtt")} == {file.path for file in over.files}


def test_what_a_dead_delivery_left_is_removed_and_an_editors_copy_stays(deployment, clock):
    made = give(deployment, clock, two_videos(deployment))
    top = deployment.folder / "deliveries/exports/team"
    ours = top / made.files[0].path
    give(deployment, clock, deployment.snapshot("run_1", segments=1))
    content = (top / give(deployment, clock, two_videos(deployment)).files[0].path).read_bytes()
    folder = top / "captions/prompt_id=prm/prompt_run_id=run_2"
    folder.mkdir()
    for name in (ours.name, f"final-{ours.name}", ours.name.replace("Video", "Cut"), f"copy of {ours.name}"):
        (folder / name).write_bytes(content)
    assert list(vacuum(deployment.destination(), clock).strays) == [
        f"captions/prompt_id=prm/prompt_run_id=run_2/{ours.name}"
    ]
    assert len(list(folder.iterdir())) == 3


def test_a_video_without_a_frame_rate_is_refused_by_name_before_anything_is_written(deployment, clock):
    timing = VideoTiming("25", "00:00:00:00")
    chosen = FormatOptions("markers", videos={"vid_1": timing})
    with pytest.raises(TimelineError, match=r"prompt run run_1 has videos without .*: vid_2 \(Video vid_2\)\. Neither"):
        give(deployment, clock, two_videos(deployment), options=chosen)
    assert deployment.files() == {"_vv/owner.json"}
    give(
        deployment,
        clock,
        two_videos(deployment),
        options=FormatOptions("markers", videos={"vid_1": timing, "vid_2": timing}),
    )


def test_a_run_that_is_refused_is_in_no_other_runs_way(deployment, clock):
    chosen = FormatOptions("markers", videos={"vid_1": VideoTiming("25", "00:00:00:00")})
    rated = deployment.snapshot("run_2", segments=[segment(0, video="vid_1")])
    asked = request(deployment, two_videos(deployment), rated, options=chosen)
    outcome = deliver_isolated(asked, lambda one: deliver(one, deployment.store, clock))
    assert [run.run_id for one in outcome.deliveries for run in one.prompt_runs] == ["run_2"]
    assert {run_id: type(error) for run_id, error in outcome.problems.items()} == {"run_1": TimelineError}


def test_markers_say_which_extra_they_need(deployment, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentimelineio", None)
    with pytest.raises(RequestError, match=r"pip install 'vv-exports\[video\]'"):
        give(deployment, clock, two_videos(deployment), options=MARKERS)
    assert deployment.files() == {"_vv/owner.json"}


def test_its_name_is_not_told_where_something_is_not_delivered(deployment, clock):
    chosen = FormatOptions("markers", videos={"vid_1": VideoTiming("25", "00:00:00:00")})
    with pytest.raises(TimelineError, match=r"timecode: vid_2\. Neither"):
        give(deployment, clock, two_videos(deployment), options=chosen, redact={"video_name": "mask"})


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"start_time": None},
            "the segment seg_00000 of the video vid_1 has no place in a video: its start_time is None",
        ),
        ({"start_time": "00:00:01"}, "its start_time is None"),
        ({"start_time": -1.0}, "its start_time is -1.0"),
        ({"video_id": None}, "of no video has no place in a video"),
    ],
)
def test_a_segment_without_a_place_is_refused_by_name_before_anything_is_written(deployment, clock, fields, problem):
    snapshot = deployment.snapshot("run_1", segments=[{**segment(0), **fields}, segment(1)])
    with pytest.raises(TimelineError, match=problem):
        give(deployment, clock, snapshot)
    assert deployment.files() == {"_vv/owner.json"}


def test_pictures_have_no_line_of_time_and_no_file_and_the_log_does_not_count_them(deployment, clock, caplog):
    picture = segment(0, video="pic", start_time=None, end_time=None)
    made = give(deployment, clock, deployment.snapshot("run_1", segments=[picture, segment(1), segment(2)]))
    assert [name[:6] for name in names(made)] == ["Video_"]
    entry = json.loads((deployment.folder / "deliveries/exports/team" / log_entry_name(0)).read_text())
    assert entry["prompt_runs"][0]["counts"]["delivered"] == 2
    assert "prompt run run_1: no captions of 1 medium without times, such as pictures" in caplog.text


def test_where_nothing_is_chosen_captions_show_the_transcription_or_say_that_there_is_none(deployment, clock):
    with pytest.raises(TimelineError, match=r"none of its segments has a transcription, .* Say in format what is"):
        give(deployment, clock, two_videos(deployment), options=FormatOptions("webvtt"))
    spoken = deployment.snapshot("run_2", segments=[segment(0, transcription="Good <evening>"), segment(1)])
    made = give(deployment, clock, spoken, options=FormatOptions("webvtt"))
    assert [one["text"] for one in cues(deployment, made.files[0].path)] == ["Good <evening>"]
    assert made.files[0].rows == 2
    chapters = give(deployment, clock, spoken, options=FormatOptions("webvtt", kind="chapters"))
    assert [one["text"] for one in cues(deployment, chapters.files[0].path)] == ["Scene 0", "Scene 1"]


def test_text_is_of_lists_and_objects_too(deployment, clock):
    chosen = FormatOptions(
        "webvtt", text=("metadata.title", "metadata.brands[].name", "metadata.brands", "metadata.people")
    )
    brands = [{"name": "A"}, {"name": "B"}, {}]
    snapshot = deployment.snapshot(
        "run_1", segments=[segment(0, metadata={"title": "T", "brands": brands, "people": 3})]
    )
    made = give(deployment, clock, snapshot, options=chosen)
    assert cues(deployment, made.files[0].path)[0]["text"].split("\n") == [
        "T",
        "A, B",
        '{"name":"A"}, {"name":"B"}, {}',
        "3",
    ]


def test_chosen_and_redacted_fields_hold_for_text_payload_and_the_names_of_files(deployment, clock):
    redact = {"video_name": "mask", "video_id": "hash", "metadata.title": "mask", "segment_id": "drop"}
    made = give(deployment, clock, two_videos(deployment), key=KEY, redact=redact)
    found = cues(deployment, made.files[0].path)
    assert {one["text"] for one in found} <= {"*" * n for n in range(1, 20)}
    assert {one["segment_id"] for one in found} == {None}
    shown = "".join((deployment.folder / "deliveries/exports/team" / file.path).read_text() for file in made.files)
    assert not any("vid_" in text or "Scene" in text for text in (shown, *names(made)))
    assert len(made.files) == 2
    included = {"include": ("metadata.title",)}
    made = give(deployment, clock, two_videos(deployment, "run_2"), options=METADATA, fields=_fields(**included))
    assert [name[:6] for name in names(made)] == ["vid_1-", "vid_2-"]
    payload = json.loads(cues(deployment, made.files[0].path, "metadata")[0]["document"])
    assert payload["metadata"] == {"title": "Scene 0"}
    assert payload.keys() == {
        "index_id", "prompt_id", "prompt_run_id", "video_id", "start_time", "end_time", "metadata",
    }  # fmt: skip


def _fields(**chosen):
    return ContentOptions().fields.__class__(**chosen)


def test_rows_that_break_their_contract_are_set_apart_as_a_table(deployment, clock):
    broken = [segment(0), segment(1, metadata={"title": 7}), segment(2)]
    made = give(deployment, clock, deployment.snapshot("run_1", segments=broken), contract="quarantine")
    assert [(file.table, file.rows, file.path.partition(".")[2]) for file in made.files] == [
        ("segments", 2, "vtt"), ("quarantine", 1, "jsonl.zst"),
    ]  # fmt: skip
    with pytest.raises(RequestError, match="captions are text"):
        list(documents(deployment.destination()))
    made = give(deployment, clock, deployment.read("run_1"), options=METADATA, contract="quarantine")
    found = [(one.table, one.document["segment_id"]) for one in documents(deployment.destination())]
    assert found == [("segments", "seg_00000"), ("segments", "seg_00002"), ("quarantine", "seg_00001")]


def test_another_format_takes_the_place_of_these_files_and_they_of_it(deployment, clock):
    snapshot = two_videos(deployment)
    deliver(deployment.request(snapshot), deployment.store, clock)
    for chosen in (TITLES, FormatOptions("webvtt", kind="chapters", text=("metadata.title",)), MARKERS):
        before = {file.path for file in read_log(deployment.destination()).files}
        made = give(deployment, clock, snapshot, options=chosen)
        assert set(made.removed) == before
    made = deliver(deployment.request(snapshot), deployment.store, clock)
    assert {path.partition("/")[0] for path in deployment.files()} == {"segments", "failures", "_vv"} & {
        path.partition("/")[0] for path in deployment.files()
    }


def test_a_run_without_segments_has_no_file(deployment, clock):
    made = give(deployment, clock, deployment.snapshot("run_1", segments=[]))
    assert (made.files, made.committed) == ((), True)
    assert not give(deployment, clock, deployment.read("run_1")).committed


def test_a_field_that_no_schema_has_is_refused(deployment):
    from vv_exports.content.known_fields import check_fields  # noqa: PLC0415
    from vv_exports.snapshots.schemas import schemas_of  # noqa: PLC0415

    snapshot = two_videos(deployment)
    own = list(schemas_of(snapshot.prompt))
    wrong = FormatOptions("webvtt", text=("metadata.titel",))
    with pytest.raises(
        SelectionError, match=r"'metadata.titel': no prompt of index idx has such a field.*metadata.title"
    ):
        check_fields(ContentOptions(wrong), "idx", own, lambda: own)
    check_fields(ContentOptions(FormatOptions("webvtt", text=("transcription", "metadata.title"))), "idx", own, list)


def test_a_committed_file_that_was_cut_short_is_written_again(deployment, clock):
    snapshot = two_videos(deployment)
    made = give(deployment, clock, snapshot)
    path = deployment.folder / "deliveries/exports/team" / made.files[1].path
    path.write_bytes(path.read_bytes()[:-3])
    again = give(deployment, clock, snapshot)
    assert again.committed
    assert not verify(deployment.destination()).problems
