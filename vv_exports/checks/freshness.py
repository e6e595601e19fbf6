"""Was something delivered within the time that is expected?"""

from datetime import datetime, timedelta

from vv_exports.checks.outcome import FRESHNESS, CheckOutcome, utc


def freshness(  # noqa: PLR0917
    index_id: str, automation: str, every: timedelta, last: datetime | None, began_at: datetime | None, now: datetime
) -> CheckOutcome:
    """``last`` is when the last delivery was committed. Before the first one, the time since the automation began
    counts; one that did not begin yet is not late."""
    since = last or began_at
    late = since is not None and now - since > every
    if since is None:
        said = "The automation did not begin yet."
    elif last is None:
        said = f"Nothing was delivered since the automation began at {utc(since)}"
    else:
        said = f"The last delivery was at {utc(since)}"
    if since is not None:
        said += f", {_long(now - since)} ago; one is expected every {_long(every)}."
    return CheckOutcome(
        index_id,
        ("exports", automation),
        "freshness",
        passed=not late,
        severity=FRESHNESS.severity,
        description=said,
        at=None if since is None else now,
        figures={
            "expected_every_seconds": int(every.total_seconds()),
            **({} if since is None else {"age_seconds": int((now - since).total_seconds())}),
            **({} if last is None else {"last_delivery_at": utc(last)}),
        },
    )


def _long(time: timedelta) -> str:
    """A length of time as people say it, in its two greatest units."""
    minutes = int(time.total_seconds() // 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
