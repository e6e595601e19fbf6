import posixpath
import tempfile
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from vv_exports.domain.destinations import (
    LOG_FOLDER,
    OWNER,
    check_subpath,
    comparable,
    hash_in_name,
    is_in_table,
    log_entry_name,
    log_sequence,
    overlaps,
    part_name,
    run_folder,
    table_folder,
    version_of_folder,
    video_file_name,
    video_stem,
)
from vv_exports.errors import DestinationError

GOOD = [
    "exports/review-team",
    "daily",
    "a",
    "v1.2",
    "a..b",
    "Team A/Ünïcode/日本語",
    "reports, 2026/user@example.com/a+b",
    "100% sure",
    "%zz",
    "a~b/~c",
    "a-b_c.d",
    "a'b\"c(d)&e$f#g!",
    "console/nulls/com10",
    "é" * 100,
    "/".join("a" * 32),
    "/".join(["x" * 140] * 4),
    "👩",
]
BAD = {
    "absolute": ["/x", "/", "//x", "\\x", "\\\\server\\share", "C:\\x", "C:x", "c:/x", "~", "~/x", "~root/x"],
    "URLs": ["file:///x", "s3://bucket/x", "memory://x", "gs://b", "x://", "ab::c", "a:b", "a/b:c", "ab:"],
    "dot segments": [".", "..", "./a", "../a", "a/..", "a/../b", "a/./b", "a/.", "a/../../etc", "..a", ".a"],
    "empty segments": ["", "a//b", "a//", "//", "a///b", " ", "\t"],
    "backslashes": ["a\\b", "a\\..\\b", "..\\a", "a\\"],
    "control characters": [
        "a\0b",
        "a\nb",
        "a\rb",
        "a\tb",
        "a\x1bb",
        "a\x7fb",
        "a\x85b",
        "a\x9fb",
        "a\u2028b",
        "a\u2029b",
    ],
    "percent-encoding": [
        "%2e%2e/a",
        "%2E%2e",
        "a%2fb",
        "a%2Fb",
        "a%5cb",
        "a%00b",
        "%252e%252e",
        "%25252e",
        "a%41",
    ],
    "percent-encoding of percents": ["%%32%65", "%25%32%65", "a%%2525", "％２ｅ％２ｅ", "%２e"],
    "dots in disguise": ["．．", "．", "a/．．/b", "․․", "‥", "…", "a…b", "a︰b", "﹒﹒", "a/⒈"],
    "slashes in disguise": [
        "a⁄b",
        "a∕b",
        "a／b",
        "a⧸b",
        "a⧵b",
        "a⧹b",
        "a﹨b",
        "a＼b",
        "a∖b",
        "a╱b",
        "a½b",
        "a℅b",
    ],
    "overlaid slashes": ["a\u0338b", "a\u0337b", "a\u20e5b"],
    "colons in disguise": ["C：", "a：b", "a﹕b", "a︓b"],
    "tildes in disguise": ["～/a"],
    "invisible characters": ["a\u200bb", "\ufeffa", "a\u00adb", "a\u2060", "a\u200db", "a\u3164", "a\u034fb"],
    "direction marks": ["a\u202eb", "a\u2066b", "\u200fa", "a\u061c"],
    "surrogates": ["\ud800", "a\udc80b"],
    "white space at an end": [" a", "a ", "a/ b", "a /b", "a\u00a0", "\u3000a", "a/\u2003b"],
    "dots at an end": ["a.", "a./b", "a/b.", "a.."],
    "names of devices": [
        "CON",
        "nul",
        "a/Aux",
        "com1.txt",
        "LPT9",
        "prn.tar.gz",
        "COM¹",
        "nul .txt",
        "conin$",
    ],
    "names that readers skip": ["_vv", "_vv/log", "a/_b", ".git", "a/.b", "_", "＿vv"],
    "partition columns": ["prompt_id=1", "a/b=c", "=", "a=", "a＝b"],
    "patterns": ["*", "a*", "a?", "a[b]", "a]", "a/**", "a？"],
    "decomposed characters": ["e\u0301", "a/u\u0308", "\u212b"],
    "too long": ["a" * 201, "é" * 101, "/".join(["a" * 100] * 7), "/".join("a" * 33), "a" * 100_000],
    "no text": [None, 1, True, b"a", ["a"], Path("a")],
}


@pytest.mark.parametrize("value", GOOD)
def test_a_plain_subpath_is_taken_as_it_is(value):
    assert check_subpath(value, boundary="/base") == value


@pytest.mark.parametrize("value", [pytest.param(bad, id=f"{why}-{n}") for why in BAD for n, bad in enumerate(BAD[why])])
def test_a_subpath_that_could_lead_elsewhere_or_out_of_sight_is_refused(value):
    with pytest.raises(DestinationError) as caught:
        check_subpath(value, boundary="/base/deliveries")
    assert repr(value)[:60] in str(caught.value)
    assert "/base/deliveries" in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_one_trailing_slash_is_dropped():
    assert check_subpath("exports/daily/", boundary="/base") == "exports/daily"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("/etc", "it is absolute"),
        ("s3://b/x", "it is a URL"),
        ("C:x", "a drive letter"),
        ("a/../b", "'.' or '..' segment"),
        ("a//b", "an empty segment"),
        ("a\u202eb", "U+202E RIGHT-TO-LEFT OVERRIDE (invisible character)"),
        ("a\nb", "U+000A (control character)"),
        ("a⁄b", "U+2044 FRACTION SLASH, which looks like a slash"),
        ("‥", "U+2025 TWO DOT LEADER, which can be read as '.'"),
        ("e\u0301", "which is 'é' ('\\xe9')"),
        ("％２ｅ", "reads as '%2e' in Unicode's compatible form (NFKC), which contains a percent-encoded"),
        ("a" * 201, "a segment longer than 200 bytes"),
        (7, "is not text but int"),
    ],
)
def test_the_message_says_why(value, reason):
    with pytest.raises(DestinationError) as caught:
        check_subpath(value, boundary="/base")
    assert reason in str(caught.value)


pieces = st.sampled_from(
    [
        *(
            "a",
            "b c",
            "é",
            ".",
            "..",
            "/",
            "//",
            "\\",
            "%2e",
            "%2F",
            "%",
            "%25",
            "2e",
            "2",
            "5c",
            "~",
            ":",
            "=",
        ),
        *(
            "C:",
            "_",
            "．",
            "‥",
            "…",
            "⁄",
            "∕",
            "／",
            "＼",
            "％",
            "２",
            "ｅ",
            "\u200b",
            "\u202e",
            "\0",
            "\n",
            " ",
        ),
        *("\u0301", "½", "@", "+", "日"),
    ]
)
subpaths = st.lists(pieces, min_size=1, max_size=8).map("".join) | st.text(max_size=40)
plain = st.lists(st.text("abcXYZ019-@+, é日", min_size=1, max_size=12), min_size=1, max_size=5).map("/".join)


@pytest.mark.slow
@given(subpaths | plain)
@example("%%32e")
@example("a/%2")
@example("%aé")
def test_whatever_is_accepted_names_a_folder_inside_the_boundary_however_it_is_read(value):
    try:
        accepted = check_subpath(value, boundary="/base")
    except DestinationError:
        assume(False)
    decoded = [accepted]
    for _ in range(3):
        decoded.append(unquote(decoded[-1]))
    for text in decoded:
        for form in (text, *(unicodedata.normalize(name, text) for name in ("NFC", "NFKC", "NFKD"))):
            assert posixpath.normpath(posixpath.join("/base", form)) == f"/base/{form}"
            assert unquote(form) == form
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, accepted)
        made.mkdir(parents=True)
        assert made.resolve().relative_to(Path(folder).resolve()).as_posix() == accepted


@given(subpaths | plain)
def test_an_accepted_subpath_is_accepted_again_unchanged(value):
    try:
        accepted = check_subpath(value, boundary="/base")
    except DestinationError:
        assume(False)
    assert check_subpath(accepted, boundary="/base") == accepted


@given(plain)
def test_plain_names_are_accepted_unless_a_segment_begins_or_ends_in_white_space(value):
    assume(all(segment == segment.strip() for segment in value.split("/")))
    assert check_subpath(value, boundary="/base") == value


class TestOverlaps:
    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ("x", "x"),
            ("x", "x/y"),
            ("x/y/z", "x"),
            ("X/y", "x/Y"),
            ("É", "é"),
            ("e\u0301", "é"),
            ("straße", "STRASSE"),
            ("", "x"),
        ],
    )
    def test_equal_and_nested_folders_overlap(self, a, b):
        assert overlaps(a, b)
        assert overlaps(b, a)

    @pytest.mark.parametrize(("a", "b"), [("x", "xy"), ("x/y", "x/z"), ("x/y", "y"), ("a/b/c", "a/bc"), ("1", "①")])
    def test_neighbours_do_not(self, a, b):
        assert not overlaps(a, b)
        assert not overlaps(b, a)

    @given(plain, plain)
    def test_a_folder_overlaps_everything_below_it_in_any_case(self, a, b):
        assert overlaps(a, f"{a}/{b}")
        assert overlaps(a.upper(), f"{a.lower()}/{b}")
        assert comparable(f"{a}/{b}") == comparable(a) + comparable(b)


class TestNamesInACollection:
    @pytest.mark.parametrize("version", [1, 2, 9, 10, 123])
    def test_a_table_has_a_folder_for_each_version(self, version):
        folder = table_folder("segments", version)
        assert version_of_folder("segments", folder) == version
        assert version_of_folder("videos", folder) is None
        assert is_in_table(f"{folder}/prompt_id=p/part.parquet")

    @pytest.mark.parametrize("folder", ["segments.v1", "segments.v0", "segments.v02", "segments.v", "segmentsv2", "x"])
    def test_no_other_folder_is_a_tables(self, folder):
        assert version_of_folder("segments", folder) is None
        assert not is_in_table(f"{folder}/x")

    def test_a_table_folder_quotes_the_ids(self):
        assert run_folder("segments", "p/1", "..") == "segments/prompt_id=p%2F1/prompt_run_id=%2E%2E"

    def test_a_part_is_named_by_its_content(self):
        assert part_name(7, "0123456789abcdef" * 4, ".parquet") == "part-00007-0123456789abcdef.parquet"

    def test_log_entries_sort_by_name_as_they_do_by_number(self):
        assert log_entry_name(0) == "_vv/log/00000000000000000000.json"
        assert sorted(map(log_entry_name, [10, 9, 100])) == [log_entry_name(n) for n in (9, 10, 100)]

    @given(st.integers(0, 10**20 - 1))
    def test_a_log_entry_name_gives_its_number_back(self, sequence):
        assert log_sequence(log_entry_name(sequence)) == sequence

    @pytest.mark.parametrize("sequence", [-1, 10**20])
    def test_a_number_that_does_not_fit_has_no_name(self, sequence):
        with pytest.raises(ValueError, match="sequence number"):
            log_entry_name(sequence)

    @pytest.mark.parametrize(
        "name",
        [
            "_vv/log/.DS_Store",
            "_vv/log/1.json",
            "_vv/owner.json",
            f"{log_entry_name(1)}.tmp",
            f"{log_entry_name(1)}\n",
        ],
    )
    def test_other_files_beside_the_log_are_not_entries(self, name):
        assert log_sequence(name) is None

    def test_readers_of_plain_files_skip_what_is_ours(self):
        assert OWNER.startswith("_vv/")
        assert LOG_FOLDER.startswith("_vv/")


class TestFilesOfVideos:
    @given(st.text(max_size=300), st.none() | st.text(max_size=300), st.integers(0, 3))
    def test_any_video_has_a_name_that_every_disk_takes_and_that_is_known_again(self, video_id, name, number):
        stem = video_stem(video_id, name)
        made = video_file_name(stem, number, "0123456789abcdef" * 4, ".vtt")
        assert all(unicodedata.category(one)[0] in "LMN" or one in "-_" for one in made.removesuffix(".vtt"))
        assert unicodedata.category(made[0])[0] in "LN"
        assert len(made.encode()) < 200
        assert unicodedata.normalize("NFC", made) == made
        path = f"captions/prompt_id=p/prompt_run_id=r/{made}"
        assert hash_in_name(path, {".vtt"}) == "0123456789abcdef"
        assert is_in_table(path)

    def test_words_of_any_script_stay_words(self):
        assert video_stem("v-1", "नमस्ते, สวัสดี: Ünïcode 日本語.mov") == "नमस्ते_สวัสดี_Ünïcode_日本語-v-1"

    @pytest.mark.parametrize(
        "change",
        [
            lambda name: f"x{name}",
            lambda name: f"copy of {name}",
            lambda name: name.replace("Film", "film"),
            lambda name: name.replace(".vtt", ".srt"),
            lambda name: name.replace("-0123", "-0124"),
            lambda name: f"sub/{name}",
            lambda name: name.replace("-vid-", "-vid-2-"),
        ],
    )
    def test_a_name_that_somebody_made_of_it_is_not(self, change):
        made = video_file_name(video_stem("vid", "Film.mp4"), 0, "0123456789abcdef" * 4, ".vtt")
        assert made.startswith("Film-vid-")
        assert hash_in_name(f"captions/prompt_id=p/prompt_run_id=r/{change(made)}", {".vtt"}) is None
        assert hash_in_name(f"segments/prompt_id=p/prompt_run_id=r/{made}", {".vtt"}) is None
