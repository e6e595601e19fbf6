import re
from hashlib import sha256
from posixpath import normpath
from urllib.parse import unquote

import dagster as dg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vv_exports.domain.names import (
    MAX_SEGMENT_BYTES,
    dagster_key,
    dagster_name,
    partition_key,
    path_segment,
    run_id_from_partition_key,
    storage_segment,
)

ids = st.text(min_size=1, max_size=80) | st.text("ab._~-%/é\u202e… \n0", min_size=1, max_size=300)
encodable = ids.filter(lambda text: not re.search(r"[\ud800-\udfff]", text))
long_ids = st.text("aé映🎬\u0301%~/ \U0010ffff", min_size=201, max_size=230)
SHORTENED = "~" + "0" * 32


class TestPathSegment:
    def test_a_usual_id_stays_as_it_is(self):
        assert path_segment("run_123.v2~a-B") == "run_123.v2~a-B"

    def test_everything_else_is_percent_encoded_in_upper_case(self):
        assert path_segment("a/b=é %") == "a%2Fb%3D%C3%A9%20%25"

    @pytest.mark.parametrize(("text", "segment"), [(".", "%2E"), ("..", "%2E%2E"), ("...", "..."), (".a", ".a")])
    def test_an_id_of_dots_is_no_dot_segment(self, text, segment):
        assert path_segment(text) == segment
        assert unquote(segment) == text

    def test_an_empty_id_is_refused(self):
        with pytest.raises(ValueError, match="empty id"):
            path_segment("")

    def test_half_a_surrogate_pair_is_refused(self):
        with pytest.raises(ValueError, match="surrogate"):
            path_segment("run\ud800")

    @given(encodable)
    @example("a" * 200)
    @example("a" * 201)
    @example("é" * 34)
    @example("a" + SHORTENED)
    def test_a_segment_is_short_plain_and_leads_nowhere_else(self, text):
        segment = path_segment(text)
        assert re.fullmatch(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+", segment)
        assert len(segment) <= MAX_SEGMENT_BYTES
        assert normpath(f"/base/{segment}") == f"/base/{segment}"

    @given(encodable)
    @example(SHORTENED)
    def test_a_segment_that_is_not_shortened_decodes_to_the_id(self, text):
        segment = path_segment(text)
        assert re.search(r"~[0-9a-f]{32}\Z", segment) or unquote(segment, errors="strict") == text

    @given(long_ids)
    @example("映画" * 60)
    @example("a" + "🎬" * 60)
    @example("e\u0301" * 60)
    @example("%" * 100)
    def test_a_shortened_segment_decodes_to_the_beginning_of_the_id_and_its_hash(self, text):
        segment = path_segment(text)
        assert len(segment) <= MAX_SEGMENT_BYTES
        stem, _, digest = unquote(segment, errors="strict").rpartition("~")
        assert text.startswith(stem)
        assert digest == sha256(text.encode()).hexdigest()[:32]
        # Nothing is cut off that there was room for: one character more has at most 12 bytes.
        assert len(segment) > MAX_SEGMENT_BYTES - 12

    @given(st.lists(long_ids, min_size=2, max_size=2, unique=True))
    @example(["映画" * 60, "映画" * 60 + "a"])
    def test_two_long_ids_never_share_a_segment(self, two):
        one, other = ({path_segment(text), storage_segment(text)} for text in two)
        assert not one & other

    @given(st.text("a%é~", min_size=190, max_size=210), st.text("a%é~", min_size=190, max_size=210))
    def test_long_ids_that_differ_have_segments_that_differ(self, a, b):
        assert (path_segment(a) == path_segment(b)) == (a == b)

    def test_no_id_can_pass_for_a_shortened_one(self):
        shortened = path_segment("x" * 500)
        assert len(shortened) == MAX_SEGMENT_BYTES
        assert path_segment(shortened) != shortened
        # Nor through the id that the encoded form of that one reads as.
        assert path_segment(path_segment(shortened)) not in {shortened, path_segment(shortened)}


class TestStorageSegment:
    """What is stored under these names is found under no others, so they never change."""

    def test_a_long_id_is_cut_where_version_0_1_cut_it(self):
        assert storage_segment("映画" * 13) == "%E6%98%A0%E7%94%BB" * 9 + "%E6~039a6f89304f1fdbc6caa0be2f825c55"

    @given(encodable)
    @example("a" + SHORTENED)
    @example("..")
    def test_it_is_the_name_in_a_collection_unless_that_is_cut_inside_a_character(self, text):
        segment = storage_segment(text)
        stem = re.sub(r"~[0-9a-f]{32}\Z", "", segment)
        assert len(segment) <= MAX_SEGMENT_BYTES
        assert path_segment(text).startswith(stem[:-9])
        if segment != path_segment(text):
            with pytest.raises(UnicodeDecodeError):
                unquote(segment, errors="strict")

    def test_it_is_never_cut_inside_an_encoded_byte(self):
        for pad in range(9):
            assert "%" not in re.sub(r"%[0-9A-F]{2}", "", storage_segment("a" * pad + "é" * 200))


class TestPartitionKey:
    @pytest.mark.parametrize("run_id", ["run_123", "Run-1.2~b", "a..b", "1"])
    def test_a_usual_run_id_is_its_own_key(self, run_id):
        assert partition_key(run_id) == run_id

    @pytest.mark.parametrize(
        ("run_id", "key"),
        [
            ("a|b/c", "a%7Cb%2Fc"),
            ("a...b", "a%2E%2E%2Eb"),
            ("a...b.c/d", "a%2E%2E%2Eb%2Ec%2Fd"),
            ("a.", "a%2E"),
            (".a", "%2Ea"),
            ("100%", "100%25"),
        ],
    )
    def test_what_means_something_to_dagster_is_encoded(self, run_id, key):
        assert partition_key(run_id) == key

    @given(st.text(max_size=2000).filter(lambda text: not re.search(r"[\ud800-\udfff]", text)))
    @example("")
    @example("%2E%2E%2E")
    @example("x" * 100_000)
    def test_every_key_gives_its_run_id_back(self, run_id):
        key = partition_key(run_id)
        assert run_id_from_partition_key(key) == run_id
        assert re.fullmatch(r"[A-Za-z0-9._~%-]*", key)

    @given(st.text("ab.", max_size=12), st.text("ab.", max_size=12))
    def test_a_range_of_two_keys_can_be_taken_apart_in_one_way_only(self, first, last):
        start, end = partition_key(first), partition_key(last)
        assert f"{start}...{end}".split("...") == [start, end]

    @pytest.mark.parametrize("key", ["a b", "a...b", "%2E", "a%2fb", "%41", "%FF", "a|b"])
    def test_a_partition_that_somebody_else_made_is_not_a_run(self, key):
        if key == "%2E":
            assert run_id_from_partition_key(key) == "."
        else:
            with pytest.raises(ValueError, match=r".+"):
                run_id_from_partition_key(key)


class TestDagsterKey:
    @pytest.mark.parametrize(
        "text", ["idx_archive", "idx-archive", "A1", "_", "-", "a__0123456", "a__0123456G", "input"]
    )
    def test_an_id_of_letters_digits_and_hyphens_stays_as_it_is(self, text):
        assert dagster_key(text) == text

    def test_an_id_that_looks_like_a_name_with_a_hash_gets_another(self):
        hashed = dagster_key("review team")
        assert re.fullmatch(r"review_team__[0-9a-f]{8}", hashed)
        assert dagster_key(hashed) != hashed

    @given(st.text("a-_.é", max_size=6), st.text("a-_.é", max_size=6))
    def test_two_ids_never_get_one_key(self, a, b):
        assert (dagster_key(a) == dagster_key(b)) == (a == b)

    @given(ids | st.just("") | st.sampled_from(["\ud800", "context", "for", "é"]))
    def test_dagster_takes_every_key_for_an_asset_and_a_pool(self, text):
        key = dagster_key(text)

        @dg.asset(name="an_asset", key_prefix=key, pool=f"destination/{key}")
        def an_asset() -> None: ...

        assert re.fullmatch(r"[A-Za-z0-9_-]+", key)
        assert an_asset.key == dg.AssetKey([key, "an_asset"])


class TestDagsterName:
    @pytest.mark.parametrize("text", ["idx_archive", "A1", "_", "a__0123456", "a__0123456G", "9"])
    def test_an_id_that_is_a_name_already_stays_as_it_is(self, text):
        assert dagster_name(text) == text

    @pytest.mark.parametrize("text", ["review-team", "review.team", "review_team"])
    def test_a_hyphen_or_a_dot_becomes_an_underscore(self, text):
        assert dagster_name(text) == "review_team"

    def test_other_characters_are_replaced_and_a_hash_keeps_the_ids_apart(self):
        assert re.fullmatch(r"review_team__[0-9a-f]{8}", dagster_name("review team"))
        assert len({dagster_name(text) for text in ["review%team", "review team", "review/team", "review_team"]}) == 4

    @pytest.mark.parametrize("text", ["review_team__d1765cfe", "review-team--d1765cfe", "class", "input"])
    def test_an_id_that_looks_like_a_name_with_a_hash_or_that_dagster_reserves_gets_another(self, text):
        assert re.fullmatch(rf"{text.replace('-', '_')}__[0-9a-f]{{8}}", dagster_name(text))

    def test_a_long_id_keeps_80_characters(self):
        assert len(dagster_name("é" + "x" * 500)) == 80 + len("__01234567")

    @pytest.mark.parametrize("text", ["config", "input", "class", "type", "None"])
    def test_words_that_dagster_reserves_are_not_used(self, text):
        assert dagster_name(text).startswith(f"{text}__")

    @given(ids | st.just("") | st.sampled_from(["\ud800", "context", "for", "é"]))
    def test_dagster_takes_every_name_for_an_op_a_group_and_a_resource(self, text):
        name = dagster_name(text)

        @dg.asset(name=name, group_name=name, required_resource_keys={name})
        def an_asset() -> None: ...

        assert re.fullmatch(r"[A-Za-z0-9_]+", name)
        assert an_asset.op.name == name
        assert name == dagster_name(text)

    @given(st.text("a-_.é", max_size=6), st.text("a-_.é", max_size=6))
    def test_two_ids_get_one_name_only_where_they_differ_in_hyphens_and_dots_alone(self, a, b):
        assert dagster_name(a) != dagster_name(b) or re.sub("[.-]", "_", a) == re.sub("[.-]", "_", b)
