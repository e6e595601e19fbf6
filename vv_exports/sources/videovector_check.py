"""Whether a VideoVector account gives what exports need: tried step by step, reading only."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any, Literal

from vv_exports.domain.findings import Finding
from vv_exports.errors import CredentialsError, NotFoundError, SourceDataError, VVExportsError
from vv_exports.printable import one_line
from vv_exports.sources.documents import short
from vv_exports.sources.videovector_api import CHECK_BASE_URL, VideoVectorApi

_ALONE = 5
_TOGETHER = 64
_MEASURED_SECONDS = 3.0

_Said = tuple[Literal["ok", "warning"], str]
"""What a step found, where it did not fail: whether there is a doubt, and what it is."""


def check_account(api: VideoVectorApi) -> Iterator[Finding]:
    """The key, its scopes, the limits that the server states, its speed. Ends where going on is of no use."""
    steps = (
        ("credentials", _credentials),
        ("scope search", _scope_search),
        ("scope read", _scope_read),
        ("rate limits", _rate_limits),
        ("speed", _speed),
    )
    for step, tried in steps:
        try:
            yield Finding(step, *api.run(tried(api)))
        except VVExportsError as error:
            yield Finding(step, "failed", str(error), error)
            if step == "credentials" or not isinstance(error, CredentialsError):
                return


async def _credentials(api: VideoVectorApi) -> _Said:
    try:
        await api.get("auth", "validate")
    except NotFoundError:  # a server without this route: the next step shows it
        return "warning", f"{api.base_url} does not say whether it knows the key in {api.api_key_env}"
    return "ok", f"{api.base_url} accepts the API key in {api.api_key_env}"


async def _scope_search(api: VideoVectorApi) -> _Said:
    indexes = await api.get("indexes", include_defaults="false")
    if not isinstance(indexes, list):
        raise SourceDataError(f"GET /indexes: expected an array of indexes, found {short(indexes)}. {CHECK_BASE_URL}")
    return "ok", f"indexes can be listed: {len(indexes)}"


async def _scope_read(api: VideoVectorApi) -> _Said:
    runs = await api.get("prompt-runs", limit=1)
    if not isinstance(runs, list):
        raise SourceDataError(f"GET /prompt-runs: expected an array of runs, found {short(runs)}. {CHECK_BASE_URL}")
    return "ok", "prompt runs can be read"


async def _rate_limits(api: VideoVectorApi) -> _Said:
    try:
        status = await api.get("rate-limit", "status")
    except (NotFoundError, CredentialsError):
        return "ok", "the server does not state any"
    categories = status.get("categories") if isinstance(status, dict) else None
    if not isinstance(categories, dict):
        return "ok", "the server does not state any"
    stated = [_limit(name, one) for name, one in categories.items() if isinstance(one, dict)]
    return "ok", "; ".join(stated) or "the server does not state any"


def _limit(name: str, category: dict[str, Any]) -> str:
    left, limit = category.get("minute_remaining"), category.get("minute_limit")
    return f"{one_line(name)}: {short(left)} of {short(limit)} requests left this minute"


async def _speed(api: VideoVectorApi) -> _Said:
    """A few dozen small requests: some one after the other, then as many at a time as are allowed."""
    latencies = [await _asked(api) for _ in range(_ALONE)]
    began = time.monotonic()
    done = 0

    async def ask() -> None:
        nonlocal done
        while done < _TOGETHER and time.monotonic() < began + _MEASURED_SECONDS:
            done += 1
            await _asked(api)

    await asyncio.gather(*(ask() for _ in range(api.budget.limits.places)))
    said = (
        f"a request takes {statistics.median(latencies) * 1000:,.0f} ms; with up to {api.budget.limits.places} at a "
        f"time, {done / (time.monotonic() - began):,.0f} requests/s"
    )
    return "ok", said


async def _asked(api: VideoVectorApi) -> float:
    began = time.monotonic()
    await api.get("indexes", include_defaults="false")
    return time.monotonic() - began
