"""RFC 3339 text to microseconds since 1970 in UTC and back. It has no clock and knows no documents."""

import re
from datetime import UTC, datetime, timedelta

_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|z|[+-]\d\d:?\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_instant(text: str) -> int | None:
    """Microseconds since 1970; text without an offset is read as UTC.

    None where the text is no instant (a date alone is none), or one that no microsecond hits.
    """
    found = _INSTANT.fullmatch(text)
    if not found:
        return None
    day, minute, second, fraction, offset = found.groups()
    digits = (fraction or "").rstrip("0")
    if len(digits) > 6:  # noqa: PLR2004 - microseconds
        return None
    try:
        clock = f"{minute}:{second or '00'}.{digits:0<6}"
        moment = datetime.fromisoformat(f"{day}T{clock}{(offset or 'Z').upper()}")
        return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):  # no such day, or a year in UTC that is not within 1 to 9999
        return None


def instant_text(moment: datetime) -> str:
    """An aware datetime as RFC 3339 text in UTC, ``2026-11-23T10:00:00Z``: no fraction where it is zero."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def normalized_instant(text: str) -> str:
    """The same instant as ``instant_text`` writes it; text that is no instant is given back."""
    microseconds = parse_instant(text)
    return text if microseconds is None else instant_text(_EPOCH + microseconds * _MICROSECOND)
