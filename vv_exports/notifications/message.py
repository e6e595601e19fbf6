"""A message: what is told, as programs and as people read it. Pure."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType

from vv_exports.automations.records import Pause
from vv_exports.checks.outcome import runs_named
from vv_exports.checks.schema_change import affects_readers
from vv_exports.delivery.entry import LogEntry
from vv_exports.domain.destinations import log_entry_name
from vv_exports.domain.events import Event
from vv_exports.domain.failures import Problem
from vv_exports.printable import counted, one_line

TYPES = "com.vectormethods.vv_exports"
"""What the types of events begin with."""

MOST_RUNS, MOST_CHANGES, MOST_TEXT = 100, 20, 2000
"""Of prompt runs and of changes that a message names, and of characters of an error; its numbers are of all."""


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """Prompt runs: how many, and the first ids of them."""

    count: int
    ids: list[str]

    @classmethod
    def of(cls, run_ids: Collection[str]) -> "Runs":
        """These."""
        return cls(count=len(run_ids), ids=list(run_ids)[:MOST_RUNS])


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the collection's delivery log. ``rows`` are of what it delivered, by table. ``reasons`` count its
    prompt runs by why they were delivered, as the log entry names it; ``erased`` were taken out of the collection."""

    delivery_id: str
    sequence: int
    log_entry: str
    committed_at: str
    format: str
    prompt_runs: Runs
    reasons: dict[str, int]
    rows: dict[str, int]
    files: int
    bytes: int
    dagster_run_id: str | None
    erased: Runs | UnsetType = UNSET


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What changed of the columns of a prompt's table."""

    table: str
    prompt_id: str
    change: str
    affects_readers: bool


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong. ``kind`` is the class of the error, or the check that does not pass; ``since`` is when it began,
    where that is known."""

    kind: str
    message: str
    permanent: bool | UnsetType = UNSET
    since: datetime | UnsetType = UNSET

    @classmethod
    def of(cls, problem: Problem) -> "Trouble":
        """What failed."""
        return cls(
            kind=problem.kind, message=_bounded(problem.message), permanent=problem.permanent, since=problem.first_at
        )


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """Who paused it, and why."""

    by: str
    reason: str


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an event. ``text`` is one line for people. What else there is depends on ``event``: ``delivery`` for
    delivered and schema_changed; ``changes`` (the first of ``change_count``) for schema_changed; ``prompt_runs`` and
    ``problem`` for failed; ``prompt_runs`` for held; ``pause`` for paused; ``problem`` for late and
    verification_failed; ``after``, the events that are over, for recovered. Of a test there is the text alone."""

    event: Event | Literal["test"]
    text: str
    index_id: str | UnsetType = UNSET
    automation: str | UnsetType = UNSET
    destination_uri: str | UnsetType = UNSET
    delivery: Delivered | UnsetType = UNSET
    changes: list[Change] | UnsetType = UNSET
    change_count: int | UnsetType = UNSET
    prompt_runs: Runs | UnsetType = UNSET
    problem: Trouble | UnsetType = UNSET
    pause: Paused | UnsetType = UNSET
    after: list[Event] | UnsetType = UNSET


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is told. ``id`` is the same however often it is sent."""

    id: str
    at: datetime
    data: Data

    @property
    def type(self) -> str:
        """The type of the CloudEvent."""
        return f"{TYPES}.{self.data.event}"

    @property
    def source(self) -> str:
        """The source of the CloudEvent."""
        named = (self.data.index_id, self.data.automation)
        return "/".join(["/vv_exports", *(quote(one, safe="") for one in named if isinstance(one, str))])

    @property
    def title(self) -> str:
        """In a line, of what it is."""
        if not isinstance(self.data.index_id, str):
            return "vv_exports"
        return f"{one_line(self.data.index_id)}/{self.data.automation}: {self.data.event.replace('_', ' ')}"


class About:
    """Makes the messages of one automation at a moment."""

    def __init__(self, index_id: str, automation: str, uri: str, at: datetime) -> None:
        self.index_id, self.automation, self.uri, self.at = index_id, automation, uri, at
        self._named = f"{one_line(index_id)}/{automation}"

    def delivered(self, entry: LogEntry, message_id: str) -> Message:
        """An entry of the log was committed."""
        found = self._delivery(entry)
        runs, rows = counted(found.prompt_runs.count, "prompt run"), counted(sum(found.rows.values()), "row")
        text = f"delivered {runs} ({rows}, {counted(found.files, 'file')}) to {self.uri}"
        if found.erased is not UNSET:
            text = f"took {counted(found.erased.count, 'prompt run')} out of {self.uri}, or rows of them: erased"
        return self._message(message_id, entry.moment, "delivered", text, delivery=found)

    def schema_changed(self, entry: LogEntry, message_id: str) -> Message:
        """An entry changed columns of tables."""
        changed = [table for table in entry.tables or () if table.change is not None]
        affected = sum(map(affects_readers, changed))
        first = changed[0]
        return self._message(
            message_id,
            entry.moment,
            "schema_changed",
            f"columns of {counted(len(changed), 'table')} changed in {self.uri}, and readers of {affected} of them are "
            f"affected. {one_line(first.folder)} of prompt {one_line(first.prompt_id)}: {one_line(first.change or '')}",
            delivery=self._delivery(entry),
            changes=[
                Change(
                    table=one.folder,
                    prompt_id=one.prompt_id,
                    change=_bounded(one.change or ""),
                    affects_readers=affects_readers(one),
                )
                for one in changed[:MOST_CHANGES]
            ],
            change_count=len(changed),
        )

    def failed(self, run_ids: Sequence[str], problem: Problem, *, is_whole: bool) -> Message:
        """It began to fail: as a whole, or these prompt runs of it, and this is the problem of the first."""
        what = "it delivers nothing" if is_whole else f"{runs_named(run_ids)} cannot be delivered"
        text = f"{what}. {one_line(_bounded(problem.message))}"
        return self._message(None, self.at, "failed", text, problem=Trouble.of(problem), prompt_runs=Runs.of(run_ids))

    def cut_off(self, problem: Problem) -> Message:
        """The prompt runs of its index cannot be listed."""
        text = f"the prompt runs of its index cannot be listed. {one_line(_bounded(problem.message))}"
        return self._message(None, self.at, "failed", text, problem=Trouble.of(problem))

    def held(self, run_ids: Sequence[str], whys: Collection[str]) -> Message:
        """These prompt runs wait."""
        text = f"{runs_named(run_ids)} wait{'s' if len(run_ids) == 1 else ''}: {'; '.join(whys)}"
        return self._message(None, self.at, "held", text, prompt_runs=Runs.of(run_ids))

    def paused(self, pause: Pause) -> Message:
        """Somebody paused it, or it did itself."""
        paused = Paused(by=pause.by, reason=_bounded(pause.reason))
        text = f"paused by {one_line(paused.by)}: {one_line(paused.reason)}"
        return self._message(None, self.at, "paused", text, pause=paused)

    def resumed(self) -> Message:
        """It delivers again."""
        return self._message(None, self.at, "resumed", "resumed: it delivers what has finished meanwhile")

    def not_passed(self, event: Event, check: str, description: str) -> Message:
        """A check does not pass any more."""
        said = _bounded(description)
        return self._message(None, self.at, event, one_line(said), problem=Trouble(kind=check, message=said))

    def recovered(self, after: Sequence[Event]) -> Message:
        """What these events told is over."""
        over = {
            "failed": "what failed is well again",
            "late": "it is on time again",
            "verification_failed": "its files are whole",
        }
        text = f"recovered: {', '.join(over[event] for event in after)}"
        return self._message(None, self.at, "recovered", text, after=list(after))

    def _delivery(self, entry: LogEntry) -> Delivered:
        erased = set(entry.erased_runs)
        rows: dict[str, int] = {}
        for file in entry.files:
            rows[file.table] = rows.get(file.table, 0) + file.rows
        reasons: dict[str, int] = {}
        for run in entry.prompt_runs:
            if run.reason is not None:
                reasons[run.reason] = reasons.get(run.reason, 0) + 1
        is_erasure = entry.erasure is not UNSET
        run_ids = [run.run_id for run in entry.prompt_runs]
        return Delivered(
            delivery_id=entry.delivery_id,
            sequence=entry.sequence,
            log_entry=f"{self.uri}/{log_entry_name(entry.sequence)}",
            committed_at=entry.committed_at,
            format=entry.provenance.format,
            prompt_runs=Runs.of([run_id for run_id in run_ids if run_id not in erased]),
            reasons=reasons,
            rows=rows,
            files=len(entry.files),
            bytes=sum(file.bytes for file in entry.files),
            dagster_run_id=entry.provenance.dagster_run_id,
            erased=Runs.of(run_ids) if is_erasure else UNSET,
        )

    def _message(self, message_id: str | None, at: datetime, event: Event, text: str, **more: Any) -> Message:
        data = Data(
            event=event,
            text=f"{self._named}: {text}",
            index_id=self.index_id,
            automation=self.automation,
            destination_uri=self.uri,
            **more,
        )
        if message_id is None:
            told = msgspec.json.encode((data, at))
            message_id = hashlib.sha256(told).hexdigest()[:32]
        return Message(id=message_id, at=at, data=data)


def trial(at: datetime, target: str) -> Message:
    """A message that shows that messages arrive."""
    data = Data(event="test", text=f"a test message of vv_exports to the target {target}: messages arrive")
    return Message(
        id=f"test-{hashlib.sha256(f'{at.isoformat()} {target}'.encode()).hexdigest()[:32]}", at=at, data=data
    )


def data_schema() -> dict[str, Any]:
    """JSON Schema of the data of an event, from the types above."""
    (reference,), definitions = msgspec.json.schema_components([Data], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "data of a vv_exports event",
        **reference,
        "$defs": definitions,
    }


def _bounded(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"
