"""What is remembered of an automation in the pipeline's storage: where it began, whether it is paused, what failed.

It outlives Dagster's database. What is delivered is not among it: the collection's log says that.

Layout::

    automations/<index>/<automation>/begin.json.zst            which runs were there before it; written once
    automations/<index>/<automation>/state/<version>.json.zst  pause and failures
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import NOT_PACKED, VersionedDocument, packed, unpacked
from vv_exports.domain.failures import Problem, problem_of
from vv_exports.domain.names import storage_segment
from vv_exports.domain.prompt_runs import RunStatus
from vv_exports.domain.selection import takes
from vv_exports.errors import DeliveredDataError
from vv_exports.sources.base import ListedRun


class BeginningRules(Protocol):
    """What the configuration says of where an automation begins."""

    @property
    def start(self) -> Literal["now", "beginning"]: ...
    @property
    def on_status(self) -> Collection[str]: ...
    @property
    def partial(self) -> str: ...


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """Where an automation began. ``history`` are the runs that were finished then: delivering them is a backfill's
    work. ``held`` are those of them that were not complete, and that it would not have delivered like that. Both are
    empty where it began at the beginning."""

    began_at: datetime
    start: Literal["now", "beginning"]
    history: frozenset[str]
    held: frozenset[str] = frozenset()

    @classmethod
    def of(cls, rules: "BeginningRules", runs: Iterable[ListedRun], now: datetime) -> "Beginning":
        """How an automation begins now, beside these runs of its index."""
        finished = [run for run in runs if run.deliverable] if rules.start == "now" else []
        return cls(
            began_at=now,
            start=rules.start,
            history=frozenset(run.run_id for run in finished),
            held=frozenset(
                run.run_id
                for run in finished
                if run.status != RunStatus.COMPLETED
                and not takes(run.status, on_status=rules.on_status, partial=rules.partial, delivered=False)
            ),
        )


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Why an automation waits. ``by`` says who paused it: a user, or the automation itself."""

    at: datetime
    by: str
    reason: str


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run waits: files at an address cannot hold the types of this data version of it, or, where ``why`` is
    ``contract``, rows of it break its prompt's schema."""

    data_version: str
    uri: str
    why: Literal["conflict", "contract"] = "conflict"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """Pause and failures. ``failing`` is what the last delivery failed with, None after one that did not fail;
    ``problems`` are of single runs; ``conflicts`` are those that wait, since files of their
    prompt cannot hold their types, or since they break their contract."""

    pause: Pause | None = None
    failing: Problem | None = None
    problems: dict[str, Problem] = {}
    conflicts: dict[str, Conflict] = {}


class AutomationRecord:
    """The record of one automation."""

    def __init__(self, storage: Connector, index_id: str, automation: str) -> None:
        self._storage = storage
        folder = f"automations/{storage_segment(index_id)}/{storage_segment(automation)}"
        self._beginning_key = f"{folder}/begin.json.zst"
        self._state = VersionedDocument(storage, f"{folder}/state", Remembered, Remembered)
        self._beginning: Beginning | None = None

    def beginning(self) -> Beginning | None:
        """Where it began; None where it did not begin yet."""
        if self._beginning is None:
            data = self._storage.read(self._beginning_key)
            try:
                self._beginning = unpacked(data, Beginning) if data is not None else None
            except NOT_PACKED as error:
                raise DeliveredDataError(
                    f"{self._storage.uri(self._beginning_key)} does not say where an automation began: {error}. "
                    "Restore it, or remove it: the automation then begins anew, and the log of its collection says "
                    "when it began before."
                ) from error
        return self._beginning

    def begin(self, beginning: Beginning) -> Beginning:
        """Begin like this, unless it began before. Returns how it began."""
        found = self.beginning()
        if found is None:
            self._storage.create(self._beginning_key, packed(beginning))
            found = self.beginning()
        if found is None:
            raise RuntimeError(f"{self._storage.uri(self._beginning_key)} was written and is not there")
        return found

    def state(self) -> Remembered:
        """Pause and failures."""
        return self._state.read()

    def rewrite(self, text: Callable[[str], str], over: Collection[str] = ()) -> None:
        """Let what is said of pause and failures be what ``text`` makes of it, and forget the runs ``over``. No earlier
        version stays."""

        def rewritten(state: Remembered) -> Remembered | None:
            pause = state.pause
            after = msgspec.structs.replace(
                state,
                pause=None if pause is None else msgspec.structs.replace(pause, reason=text(pause.reason)),
                failing=None if state.failing is None else state.failing.rewritten(text),
                problems={run_id: one.rewritten(text) for run_id, one in state.problems.items() if run_id not in over},
                conflicts={run_id: one for run_id, one in state.conflicts.items() if run_id not in over},
            )
            return after if after != state else None

        self._state.update(rewritten)
        self._state.settle()

    def pause(self, by: str, reason: str, now: datetime) -> None:
        """Pause it. One that is paused already stays so, for its first reason."""
        pause = Pause(at=now, by=by, reason=reason)
        self._state.update(lambda state: None if state.pause else msgspec.structs.replace(state, pause=pause))

    def resume(self) -> bool:
        """Lift a pause, and forget what failed before it. False where there was none."""
        was_paused = self.state().pause is not None
        self._state.update(
            lambda state: forgotten if state != (forgotten := Remembered(conflicts=state.conflicts)) else None
        )
        return was_paused

    def succeeded(
        self,
        delivered: Iterable[str],
        problems: Mapping[str, BaseException],
        now: datetime,
        conflicts: Mapping[str, Conflict] | None = None,
    ) -> None:
        """A delivery was made, without the runs in ``problems``. ``conflicts`` are those of them that are to wait."""
        done = set(delivered)

        def after(state: Remembered) -> Remembered | None:
            kept = {run_id: problem for run_id, problem in state.problems.items() if run_id not in done}
            for run_id, error in problems.items():
                kept[run_id] = problem_of(error, state.problems.get(run_id), now)
            held = {run_id: conflict for run_id, conflict in state.conflicts.items() if run_id not in done}
            held.update(conflicts or {})
            changed = msgspec.structs.replace(state, failing=None, problems=kept, conflicts=held)
            return changed if changed != state else None

        self._state.update(after)

    def failed(self, error: BaseException, pause_after: int | None, now: datetime) -> None:
        """A delivery failed as a whole. After ``pause_after`` permanent failures of one kind in a row it pauses."""

        def after(state: Remembered) -> Remembered:
            failing = problem_of(error, state.failing, now)
            pause = state.pause
            if pause is None and failing.permanent and pause_after is not None and failing.attempts >= pause_after:
                reason = f"{failing.attempts} failures in a row of the same kind, {failing.kind}: {failing.message}"
                pause = Pause(at=now, by="itself", reason=reason)
            return msgspec.structs.replace(state, pause=pause, failing=failing)

        self._state.update(after)
