"""What of an automation's situation was not told yet. Pure: one place decides what a change of state is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from vv_exports.automations.automation import Automation
from vv_exports.automations.standing import Why
from vv_exports.delivery.entry import LogEntry
from vv_exports.domain.events import Event
from vv_exports.notifications.message import About, Message
from vv_exports.notifications.situation import Situation

_REMEMBERED = 200
"""Deliveries that are remembered. The same content delivered once more has the same id, and is news all the same; what
a log tells once more, since its folder was away for a while, is none."""

_WHOLE = ""
"""Stands among prompt runs that fail for the automation itself."""

_WAITS: Mapping[Why | None, str] = {
    "conflict": "its types do not fit those of its prompt's files (`on_schema_conflict: hold`)",
    "contract": "rows break its prompt's JSON Schema (`contract: block`)",
}
_INCOMPLETE = "it is not complete (`partial: hold`)"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of an automation last. Entries of its log at ``uri`` before ``next_sequence`` were;
    ``deliveries`` are the last of them: ids, and when they were committed. ``failing`` are the prompt runs that were
    told to fail, and that still do, since the log had ``failing_from`` entries; ``held`` those that wait. The others
    say what was told of the rest."""

    uri: str
    next_sequence: int
    deliveries: dict[str, str] = {}
    failing: frozenset[str] = frozenset()
    failing_from: int = 0
    held: frozenset[str] = frozenset()
    is_paused: bool = False
    is_late: bool = False
    is_damaged: bool = False
    is_cut_off: bool = False

    @classmethod
    def begun(cls, now: Situation) -> "Told":
        """Where nothing was told yet: what was delivered before, who waits, and a pause are no news; what fails is."""
        return cls(
            uri=now.uri, next_sequence=now.next_sequence, held=frozenset(now.held), is_paused=now.pause is not None
        )


@dataclass(frozen=True)
class News:
    """Messages, the oldest first, and what was told once they are in the outbox. ``outdated`` entries of the log are
    too old to be told."""

    told: Told
    messages: list[Message]
    outdated: int = 0


def news(automation: Automation, told: Told, now: Situation, tell_for: timedelta) -> News:
    """What is new in a situation. What was delivered longer than ``tell_for`` ago is not told."""
    about = About(automation.index_id, automation.name, now.uri, now.at)
    recent = [entry for entry in now.entries if entry.prompt_runs and now.at - entry.moment <= tell_for]
    deliveries = dict(told.deliveries)
    delivered = [message for entry in recent for message in _of_entry(about, entry, deliveries)]
    failing = frozenset(now.failing) if now.is_known else told.failing - {_WHOLE}
    failing |= {_WHOLE} if now.whole is not None else frozenset()
    is_on_time = now.late is None and now.is_known and now.pause is None
    began_to_fail = _failed(about, now, failing - told.failing)
    after = Told(
        uri=now.uri,
        next_sequence=now.next_sequence,
        deliveries=dict([*deliveries.items()][-_REMEMBERED:]),
        failing=failing,
        failing_from=now.next_sequence if began_to_fail else told.failing_from,
        held=frozenset(now.held) if now.is_known else told.held,
        is_paused=now.pause is not None,
        is_late=now.late is not None or (told.is_late and not is_on_time),
        is_damaged=now.verification is not None,
        is_cut_off=now.source is not None,
    )
    messages = [
        *delivered,
        *([about.cut_off(now.source)] if now.source is not None and not told.is_cut_off else []),
        *began_to_fail,
        *_held(about, told, now),
        *_checked(about, told, now),
        *_recovered(about, told, after),
        *_switched(about, told, now),
    ]
    return News(after, messages, sum(bool(entry.prompt_runs) for entry in now.entries) - len(recent))


def _failed(about: About, now: Situation, new: Collection[str]) -> list[Message]:
    run_ids = [run_id for run_id in now.failing if run_id in new]
    whole = now.whole if _WHOLE in new else None
    first = whole or next((now.failing[run_id] for run_id in run_ids), None)
    return [] if first is None else [about.failed(run_ids, first, is_whole=whole is not None)]


def _held(about: About, told: Told, now: Situation) -> list[Message]:
    new = [run_id for run_id in now.held if run_id not in told.held]
    whys = dict.fromkeys(_WAITS.get(now.held[run_id], _INCOMPLETE) for run_id in new)
    return [about.held(new, whys)] if new else []


def _checked(about: About, told: Told, now: Situation) -> list[Message]:
    found: list[Message] = []
    if now.verification is not None and not told.is_damaged:
        found.append(about.not_passed("verification_failed", "verification", now.verification.description))
    if now.late is not None and not told.is_late:
        found.append(about.not_passed("late", "freshness", now.late.description))
    return found


def _recovered(about: About, told: Told, after: Told) -> list[Message]:
    over: list[Event] = []
    # Without a delivery since then what failed is forgotten, as by who resumes it, and not mended.
    is_mended = told.failing and not after.failing and after.next_sequence > told.failing_from
    if is_mended or (told.is_cut_off and not after.is_cut_off):
        over.append("failed")
    if told.is_late and not after.is_late:
        over.append("late")
    if told.is_damaged and not after.is_damaged:
        over.append("verification_failed")
    return [about.recovered(over)] if over else []


def _switched(about: About, told: Told, now: Situation) -> list[Message]:
    if now.pause is not None and not told.is_paused:
        return [about.paused(now.pause)]
    return [about.resumed()] if now.pause is None and told.is_paused else []


def _of_entry(about: About, entry: LogEntry, deliveries: dict[str, str]) -> list[Message]:
    """The delivery's id is the message's, and remembered among ``deliveries``."""
    before = deliveries.pop(entry.delivery_id, None)
    deliveries[entry.delivery_id] = entry.committed_at
    if before == entry.committed_at:
        return []
    message_id = entry.delivery_id if before is None else f"{entry.delivery_id}-{entry.sequence}"
    found = [about.delivered(entry, message_id)]
    if any(table.change is not None for table in entry.tables or ()):
        found.append(about.schema_changed(entry, f"{message_id}-schema_changed"))
    return found
