"""The budget holds for all requests together, and is not wasted."""

import asyncio

import pytest

from vv_exports.sources.request_budget import Limits, RequestBudget


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes only when everyone sleeps, so that minutes take no time and sums are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


def run(work):
    loop = Clock()
    try:
        return loop.run_until_complete(work), loop.now
    finally:
        loop.close()


async def requests(budget, count, *, seconds=0.0, begun=None, at_a_time=None):
    """So many requests at once, each of them taking so long. Returns the most that were under way."""
    under_way, most = 0, 0

    async def one():
        nonlocal under_way, most
        async with budget.request():
            under_way += 1
            most = max(most, under_way)
            if begun is not None:
                begun.append(asyncio.get_running_loop().time())
            await asyncio.sleep(seconds)
            under_way -= 1

    await asyncio.gather(*(one() for _ in range(count)))
    return most


def test_no_more_than_allowed_are_under_way():
    most, took = run(requests(RequestBudget(Limits(4, None)), 20, seconds=1))
    assert most == 4
    assert took == pytest.approx(5)


@pytest.mark.parametrize("rate", [0.5, 10, 250])
def test_no_more_than_allowed_begin_each_second(rate):
    begun = []
    run(requests(RequestBudget(Limits(100, rate)), 100, begun=begun))
    for i, time in enumerate(begun):
        assert time >= (i - 1) / rate - 0.1 - 1e-9, "what was missed is made up for, a tenth of a second of it"
    assert begun[-1] <= 99 / rate + 1e-6, "and no turn is wasted"


def test_a_pause_holds_for_all_also_for_those_that_wait_already():
    begun = []

    async def work():
        budget = RequestBudget(Limits(10, 10))
        waiting = asyncio.create_task(requests(budget, 10, begun=begun))
        await asyncio.sleep(0.35)
        budget.pause(60)
        await waiting
        return budget.spent

    spent, _ = run(work())
    before = [time for time in begun if time <= 0.35]
    assert 0 < len(before) < 6
    assert all(time >= 60.35 for time in begun if time > 0.35)
    assert (spent.requests, spent.pauses) == (10, 1)
    assert 60 < spent.waited < 61.5, "seconds, however many wait"


def test_a_shorter_pause_does_not_end_a_longer_one():
    async def work():
        budget = RequestBudget(Limits(1, None))
        budget.pause(10)
        budget.pause(1)
        await requests(budget, 1)

    assert run(work())[1] == pytest.approx(10)


def test_a_place_that_is_left_early_is_free_once():
    async def work():
        budget = RequestBudget(Limits(1, None))

        async def one():
            async with budget.request() as leave:
                await asyncio.sleep(1)
                leave()
                leave()
                await asyncio.sleep(10)

        await asyncio.gather(one(), one(), one())
        return budget.under_way

    assert run(work()) == (0, pytest.approx(13))


def test_a_request_that_fails_frees_its_place():
    async def work():
        budget = RequestBudget(Limits(1, None))
        for _ in range(3):
            with pytest.raises(ValueError, match="boom"):
                async with budget.request():
                    raise ValueError("boom")
        return await requests(budget, 2)

    assert run(work())[0] == 1
