"""What can go wrong between an exporter and the platform, as switches of the local server."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum, auto
from typing import Any

from vv_exports_tests.fakes.platform import Document

Answer = tuple[int, dict[str, str], str | bytes]
"""Status, headers, body."""


class FaultKind(Enum):
    """One thing that goes wrong with an answer."""

    # Another answer than the right one
    RATE_LIMITED = auto()
    RATE_LIMITED_UNTIL_DATE = auto()
    RATE_LIMITED_WITHOUT_RETRY_AFTER = auto()
    RATE_LIMITED_FOR_AN_HOUR = auto()
    SERVER_ERROR = auto()
    SERVICE_UNAVAILABLE = auto()
    ERROR_IS_TEXT = auto()
    FASTAPI_DETAIL = auto()
    HTML_ERROR_PAGE = auto()
    REDIRECT = auto()
    UNAUTHORIZED = auto()
    UNAUTHORIZED_AND_SAYS_THE_KEY = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    HTML_NOT_FOUND = auto()
    UNPROCESSABLE = auto()
    QUOTA_USED_UP = auto()
    RATE_QUOTA_USED_UP = auto()
    HTML_WITH_200 = auto()
    INVALID_JSON = auto()
    EMPTY_BODY = auto()
    OTHER_SERVICE = auto()
    ANSWERED_WITH = auto()
    # The right answer, and the connection is not
    CUT_BODY = auto()
    CONNECTION_RESET = auto()
    HANGS = auto()
    SLOW_BODY = auto()
    ENDLESS_BODY = auto()
    # The right answer in a wrong shape
    REPEATED_CURSOR = auto()
    HAS_MORE_WITHOUT_CURSOR = auto()
    CURSOR_WITHOUT_HAS_MORE = auto()
    EMPTY_PAGE_WITH_MORE = auto()
    PAGE_REPEATS_ROWS = auto()
    PAGE_SKIPS_ROWS = auto()
    ROWS_MISSING_AT_END = auto()
    BARE_ARRAY = auto()
    PAGINATION_NULL = auto()
    PAGINATION_MISSING = auto()
    DATA_NULL = auto()
    NULL_MARKERS = auto()
    NULL_COUNTERS = auto()
    NULL_FLAGS = auto()
    METADATA_NULL = auto()
    UNKNOWN_STATUS = auto()
    UNKNOWN_FIELDS = auto()
    OTHER_RUNS_ROWS = auto()
    OTHER_VIDEOS_ROWS = auto()
    VIDEO_ID_NULL = auto()
    NO_PROCESSING_STATUS = auto()
    MEDIA_MISSING = auto()
    WRONG_ID = auto()
    # Something happens on the platform when the request arrives
    CHANGES_WHILE_READ = auto()


@dataclass
class Fault:
    """A switch. It acts on the requests in whose ``METHOD /path?query`` the pattern ``on`` is found: after ``skip`` of
    them, ``times`` times (None: always). ``change`` is called when it acts. ``answered`` is what
    ANSWERED_WITH gives."""

    kind: FaultKind
    on: str = ""
    times: int | None = 1
    skip: int = 0
    seconds: float = 0.0
    change: Callable[[], object] | None = None
    answered: Answer = (200, {}, b"")
    hits: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def takes(self, request: str) -> bool:
        """Whether it acts on this request. Counts it."""
        if re.search(self.on, request) is None or (self.times is not None and self.hits >= self.times):
            return False
        self._seen += 1
        if self._seen <= self.skip:
            return False
        self.hits += 1
        return True


def answer(fault: Fault, key: str, token: str) -> Answer | None:
    """The answer that a fault gives in place of the right one; None where it is not of that sort."""
    kind = FaultKind
    quota = {"resource": "metadata_reads_per_day", "reset_time": "2026-11-25T00:00:00Z"}
    html = {"Content-Type": "text/html"}
    page = f"<html><body>not what you wanted <a href='https://x.test/?token={token}'>x</a></body></html>"
    after = {"Retry-After": str(int(fault.seconds))}
    date = {"Retry-After": formatdate(time.time() + fault.seconds, usegmt=True)}
    limited = envelope("rate_limit_exceeded", "Too many requests.")
    answers: dict[FaultKind, Answer] = {
        kind.RATE_LIMITED: (429, after, limited),
        kind.RATE_LIMITED_UNTIL_DATE: (429, date, limited),
        kind.RATE_LIMITED_WITHOUT_RETRY_AFTER: (429, {}, limited),
        kind.RATE_LIMITED_FOR_AN_HOUR: (429, {"Retry-After": "3600"}, limited),
        kind.SERVER_ERROR: (500, {}, envelope("internal_error", f"Failed at https://db.test/?token={token}")),
        kind.SERVICE_UNAVAILABLE: (503, {}, envelope("service_unavailable", "Try again.")),
        kind.ERROR_IS_TEXT: (500, {}, '{"error":"text"}'),
        kind.FASTAPI_DETAIL: (502, {}, '{"detail":"Bad gateway"}'),
        kind.HTML_ERROR_PAGE: (504, html, page),
        kind.REDIRECT: (307, {"Location": f"https://login.test/start?token={token}"}, "{}"),
        kind.UNAUTHORIZED: (401, {}, envelope("authentication_invalid_api_key", "Invalid API key.")),
        kind.UNAUTHORIZED_AND_SAYS_THE_KEY: (401, {}, envelope("authentication_invalid_api_key", f"Bad key {key}.")),
        kind.FORBIDDEN: (403, {}, envelope("authorization_insufficient_scope", "The scope read is required.")),
        kind.NOT_FOUND: (404, {}, envelope("resource_not_found", "Not found.")),
        kind.HTML_NOT_FOUND: (404, html, page),
        kind.UNPROCESSABLE: (422, {}, envelope("validation_error", "limit is wrong")),
        kind.QUOTA_USED_UP: (409, {}, envelope("resource_quota_exceeded", "Quota used up.", quota)),
        kind.RATE_QUOTA_USED_UP: (429, {}, envelope("resource_rate_quota_exceeded", "Quota used up.", quota)),
        kind.HTML_WITH_200: (200, html, page),
        kind.INVALID_JSON: (200, {}, '{"data":[{"segment_id":'),
        kind.EMPTY_BODY: (200, {}, ""),
        kind.OTHER_SERVICE: (200, {}, '{"ok":true}'),
        kind.ANSWERED_WITH: fault.answered,
    }
    return answers.get(fault.kind)


def envelope(code: str, message: str, details: Document | None = None) -> str:
    """An error as the API gives it."""
    error = {"code": code, "message": message, "request_id": "req_1", **({"details": details} if details else {})}
    return json.dumps({"error": error})


def _first_row(change: Document) -> Callable[[Document], Any]:
    def shape(value: Document) -> Document:
        rows = value.get("data")
        if not isinstance(rows, list):
            return {**value, **change}
        return {**value, "data": [{**rows[0], **change}, *rows[1:]] if rows else rows}

    return shape


def _all_rows(change: Document, names: Callable[[str], bool] = lambda name: True) -> Callable[[Any], Any]:
    """Every document of the answer with the fields of ``change``."""

    def shape(value: Any) -> Any:
        if isinstance(value, list):
            return [{**row, **change} for row in value]
        if isinstance(value.get("data"), list):
            return {**value, "data": [{**row, **change} for row in value["data"]]}
        return {**value, **change}

    return shape


def _pagination(**change: Any) -> Callable[[Document], Document]:
    def shape(value: Document) -> Document:
        return {**value, "pagination": {**value["pagination"], **change}}

    return shape


def _null_counters(value: Any) -> Any:
    def nulled(row: Document) -> Document:
        return {name: None if name.startswith(("total_", "completed_")) else field for name, field in row.items()}

    if isinstance(value.get("data"), list):
        return {**value, "data": [nulled(row) for row in value["data"]]}
    return nulled(value)


def _without(value: Document, name: str) -> Document:
    return {key: item for key, item in value.items() if key != name}


_MARKS = {"marker": None, "extracted_metadata_markers": None, "metadata_markers": {"title": None}, "stop_state": None}

SHAPES: dict[FaultKind, Callable[[Any], Any]] = {
    FaultKind.HAS_MORE_WITHOUT_CURSOR: _pagination(has_more=True, next_cursor=None),
    FaultKind.CURSOR_WITHOUT_HAS_MORE: _pagination(has_more=False, next_cursor="c_leads_nowhere"),
    FaultKind.BARE_ARRAY: lambda value: value["data"],
    FaultKind.PAGINATION_NULL: lambda value: {**value, "pagination": None},
    FaultKind.PAGINATION_MISSING: lambda value: _without(value, "pagination"),
    FaultKind.DATA_NULL: lambda value: {**value, "data": None},
    FaultKind.PAGE_SKIPS_ROWS: lambda value: {**value, "data": value["data"][:-1]},
    FaultKind.ROWS_MISSING_AT_END: lambda value: _pagination(has_more=False, next_cursor=None)(
        {**value, "data": value["data"][: len(value["data"]) // 2]}
    ),
    FaultKind.PAGE_REPEATS_ROWS: lambda value: {**value, "data": [*value["data"], *value["data"][:1]]},
    FaultKind.NULL_MARKERS: _all_rows(_MARKS),
    FaultKind.NULL_COUNTERS: _null_counters,
    FaultKind.NULL_FLAGS: _all_rows({"field_extraction_succeeded": None}),
    FaultKind.METADATA_NULL: _first_row({"metadata": None}),
    FaultKind.UNKNOWN_STATUS: _all_rows({"status": "queued"}),
    FaultKind.OTHER_RUNS_ROWS: _first_row({"run_id": "another_run", "prompt_run_id": "another_run"}),
    FaultKind.OTHER_VIDEOS_ROWS: _first_row({"video_id": "another_video"}),
    FaultKind.VIDEO_ID_NULL: _all_rows({"video_id": None}),
    FaultKind.NO_PROCESSING_STATUS: lambda value: {
        **value, "data": [_without(row, "processing_status") for row in value["data"]]
    },
    FaultKind.MEDIA_MISSING: lambda value: {**value, "data": value["data"][1:]},
    FaultKind.WRONG_ID: lambda value: {
        name: f"{field}_other" if name.endswith("_id") else field for name, field in value.items()
    },
}  # fmt: skip
"""Faults that change a right answer, and how."""
