"""What the processes of a deployment hold together is never more than the whole, and nothing of it lies idle."""

import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vv_exports.sources.request_budget import NOTHING, Limits
from vv_exports.sources.shares import Share, Shares, fair, is_worth_writing, whole, with_share

ALL = Limits(16, 60.0)
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def share(turn=0, *, wants=ALL, has=NOTHING, limits=ALL, **other) -> Share:
    fields = {"host": "here", "process_id": 1, "among": None, "alive": 0, "alive_at": NOW, "time_to_live": 20.0}
    return Share(**{**fields, "turn": turn, "limits": limits, "wants": wants, "has": has, "pause_left": 0.0, **other})


def settled(shares: dict[str, Share]) -> dict[str, Share]:
    """After everyone has looked often enough: each gives back first, and takes later."""
    for _ in range(3):
        for token, me in shares.items():
            others = {other: one for other, one in shares.items() if other != token}
            shares = with_share(others, token, me, me.has.least(fair(shares)[token]))
    return shares


def held(shares: dict[str, Share]) -> tuple[int, float]:
    return sum(one.has.places for one in shares.values()), sum(one.has.rate for one in shares.values())


rates = st.one_of(st.none(), st.floats(0.01, 500))
wishes = st.builds(Limits, st.integers(1, 64), rates)
wholes = st.builds(Limits, st.integers(1, 64), rates)


@settings(max_examples=40)
@given(wholes, st.lists(wishes, min_size=1, max_size=20))
def test_all_of_the_whole_is_given_and_no_more(limits, wanted):
    shares = {str(i): share(i, wants=wants.least(limits), limits=limits) for i, wants in enumerate(wanted)}
    for found in (fair(shares), {token: one.has for token, one in settled(shares).items()}):
        assert sum(one.places for one in found.values()) == limits.places
        if limits.per_second is not None:
            assert sum(one.rate for one in found.values()) == pytest.approx(limits.rate)
        assert all((one.places > 0) == (one.rate > 0) for one in found.values())


@settings(max_examples=40)
@given(wholes, st.data())
def test_whatever_processes_do_they_never_hold_more_than_the_whole(limits, data):
    shares: dict[str, Share] = {}
    for step in range(data.draw(st.integers(1, 25))):
        token = data.draw(st.sampled_from("abcdef"))
        others = {other: one for other, one in shares.items() if other != token}
        what = data.draw(st.sampled_from(["looks", "looks", "looks", "leaves"]))
        if what == "leaves":
            shares = others
            continue
        wants = data.draw(wishes).least(limits)
        me = msgspec.structs.replace(shares.get(token) or share(step, limits=limits), wants=wants)
        aim = fair({**others, token: me})[token]
        # Of the requests under way some may be over by now.
        under_way = data.draw(st.integers(0, me.has.places))
        using = Limits.at_rate(max(min(me.has.places, aim.places), under_way), min(me.has.rate, aim.rate))
        shares = with_share(others, token, me, using)
        places, rate = held(shares)
        assert places <= limits.places
        assert limits.per_second is None or rate <= limits.rate * (1 + 1e-9)


def test_who_wants_little_has_it_and_the_others_share_the_rest():
    little = Limits(2, 6.0)
    shares = {"a": share(0), "b": share(1, wants=little), "c": share(2)}
    assert fair(shares) == {"a": Limits(7, 27.0), "b": Limits(2, 6.0), "c": Limits(7, 27.0)}
    assert fair({"b": share(wants=little)}) == {"b": ALL}, "and who is alone has all"


def test_a_newcomer_waits_until_the_others_gave_back_what_is_its():
    shares = {"a": share(0, has=ALL)}
    shares = with_share(shares, "b", share(1), NOTHING)
    assert shares["b"].has == NOTHING
    shares = settled(shares)
    assert {token: one.has for token, one in shares.items()} == {"a": Limits(8, 30.0), "b": Limits(8, 30.0)}


def test_requests_that_are_under_way_keep_their_places():
    shares = with_share({"b": share(1)}, "a", share(0, has=ALL), Limits(13, 30.0))
    assert shares["a"].has == Limits(13, 30.0)
    assert with_share({"a": shares["a"]}, "b", share(1), NOTHING)["b"].has == Limits(3, 30.0)


def test_where_there_are_fewer_places_than_processes_they_take_turns():
    limits = Limits(2, None)
    shares = settled({name: share(i, wants=limits, limits=limits) for i, name in enumerate("abc")})
    assert [one.has.places for one in shares.values()] == [1, 1, 0]
    shares["a"] = msgspec.structs.replace(shares["a"], turn=3)
    assert [one.has.places for one in settled(shares).values()] == [0, 1, 1]


def test_while_a_new_configuration_is_not_everywhere_the_lower_limits_hold():
    shares = settled({"a": share(0), "b": share(1, limits=Limits(64, 20.0)), "c": share(2, limits=Limits(4, None))})
    assert whole(shares.values()) == Limits(4, 20.0)
    assert held(shares) == (4, pytest.approx(20.0))


def test_a_rate_without_a_limit_is_shared_by_places_alone():
    limits = Limits(16, None)
    shares = settled({name: share(i, wants=limits, limits=limits) for i, name in enumerate("ab")})
    assert {token: one.has for token, one in shares.items()} == {"a": Limits(8, None), "b": Limits(8, None)}
    assert msgspec.json.decode(msgspec.json.encode(Shares(by_token=shares)), type=Shares).by_token == shares


def test_only_what_others_should_know_is_written():
    before = share(has=ALL)
    again = msgspec.structs.replace
    assert not is_worth_writing(before, again(before, alive=1, has=Limits(16, 59.5)))
    assert is_worth_writing(before, again(before, has=Limits(16, 50.0)))
    assert is_worth_writing(before, again(before, has=Limits(15, 60.0)))
    assert is_worth_writing(before, again(before, pause_left=3.0))
    assert not is_worth_writing(again(before, pause_left=3.0), again(before, pause_left=2.0))
    assert not is_worth_writing(share(has=Limits(1, math.inf)), share(has=Limits(1, math.inf)))
