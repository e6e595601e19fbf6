"""Tells what is new of automations: looks, puts it into their outboxes, and sends what is in there."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from vv_exports.automations.automation import Automation
from vv_exports.automations.records import Pause
from vv_exports.config import AppriseConfig, NotificationsConfig, TargetConfig
from vv_exports.config.messages import entry_named
from vv_exports.connectors.base import Connector
from vv_exports.errors import VVExportsError
from vv_exports.notifications.base import Target
from vv_exports.notifications.message import Message, trial
from vv_exports.notifications.news import Told, news
from vv_exports.notifications.outbox import GivenUp, Outbox, Waiting
from vv_exports.notifications.sending import ToSend, send
from vv_exports.notifications.situation import situation
from vv_exports.notifications.source_trouble import SourceTrouble
from vv_exports.printable import counted, one_line

AT_ONCE_SECONDS = 5.0
"""How long whoever delivers, pauses or verifies may take to send what is new of it."""

_LOOKED_AT_ONCE = 8
_LOOKS = 5
_LOG = logging.getLogger(__name__)

PauseOf = Callable[[Automation], Pause | None]


@dataclass(frozen=True)
class Unsent:
    """What is in the outbox of one automation."""

    automation: Automation
    waiting: Sequence[Waiting]
    given_up: Sequence[GivenUp]


@dataclass(frozen=True)
class Round:
    """What one round of sending came to: messages by target that arrived, and why others did not, by target."""

    sent: int
    problems: Mapping[str, str]


class Notifications:
    """Of one deployment. Touches neither storage nor network where nobody is to be told."""

    def __init__(self, config: NotificationsConfig, storage: Connector, clock: Callable[[], datetime]) -> None:
        self._config = config
        self._storage = storage
        self._clock = clock
        self._outboxes: dict[str, Outbox] = {}
        self.targets: Mapping[str, Target] = {name: _target(one) for name, one in config.targets.items()}

    @property
    def are_wanted(self) -> bool:
        """Whether somebody is to be told anything."""
        return bool(self.targets)

    def begin(self, automation: Automation, pause: Pause | None) -> None:
        """Before something changes of an automation: note how it is, where that was never done. What is committed then
        is told, whatever becomes of the process."""
        if self.are_wanted and automation.config.enabled:
            self._told(automation, pause)

    def tell(self, automations: Iterable[Automation], pause_of: PauseOf, seconds: float | None = None) -> Round:
        """Look at automations, put what is new into their outboxes, and send what is in there and due. What goes wrong
        with one is a warning, and is tried again by whoever tells next."""
        if not self.are_wanted:
            return Round(0, {})
        told = list(automations)
        if len(told) == 1:
            self._look(told[0], pause_of)
        else:
            with ThreadPoolExecutor(_LOOKED_AT_ONCE, thread_name_prefix="notifications") as threads:
                list(threads.map(lambda one: self._look(one, pause_of), told))
        return self._send(told, AT_ONCE_SECONDS if seconds is None else seconds)

    def source_failed(self, index_id: str, error: Exception) -> None:
        """The prompt runs of an index could not be listed. It is told with what is new of its automations."""
        if self.are_wanted:
            SourceTrouble(self._storage, index_id).failed(error, self._clock())

    def source_is_well(self, index_id: str) -> None:
        """They could be listed."""
        if self.are_wanted:
            SourceTrouble(self._storage, index_id).is_well()

    def unsent(self, automations: Iterable[Automation]) -> list[Unsent]:
        """What is in the outboxes."""
        found = [(one, self._outbox(one).read()) for one in automations]
        return [Unsent(one, content.waiting, content.given_up) for one, content in found]

    def test(self, name: str) -> str:
        """Send a message to a target, now. Returns whereto. Raises NotFoundError, and what the target raises."""
        target = entry_named("target", name, self.targets, "`notifications` of the configuration")
        return target.send(trial(self._clock(), name))

    def _look(self, automation: Automation, pause_of: PauseOf) -> None:
        """Put what is new of an automation into its outbox."""
        if not automation.config.enabled:
            return
        try:
            for _ in range(_LOOKS):
                pause = pause_of(automation)
                told = self._told(automation, pause)
                first = told.next_sequence if told.uri == automation.destination.uri else 0
                source = SourceTrouble(self._storage, automation.index_id).problem()
                now = situation(automation, first, pause, self._clock(), source)
                found = news(automation, told, now, self._config.tried_for)
                if self._outbox(automation).add(told, found, lambda one: self._wanted(automation, one)):
                    if found.outdated:
                        _LOG.warning(
                            "%s of automation %s are older than `give_up_after: %s`, and nobody is told",
                            *(counted(found.outdated, "delivery"), one_line(automation.id), self._config.give_up_after),
                        )
                    if now.is_behind:
                        continue
                    return
        except VVExportsError as error:
            _LOG.warning("what is new of automation %s is told later: %s", one_line(automation.id), error)

    def _told(self, automation: Automation, pause: Pause | None) -> Told:
        outbox = self._outbox(automation)
        if (told := outbox.read().told) is None:
            outbox.begin(Told.begun(situation(automation, None, pause, self._clock())))
            told = outbox.read().told
        if told is None:
            raise RuntimeError(f"what was told of automation {automation.id} was written and is not there")
        return told

    def _send(self, automations: Sequence[Automation], seconds: float) -> Round:
        claimed: list[ToSend] = []
        for automation in automations:
            try:
                due = self._outbox(automation).claim(self.targets.keys(), self._clock())
            except VVExportsError as error:
                _LOG.warning("messages of automation %s are sent later: %s", one_line(automation.id), error)
                continue
            claimed += [ToSend(automation.id, message, target) for message, target in due]
        if not claimed:
            return Round(0, {})
        sent = send(claimed, self.targets, seconds)
        for automation in automations:
            mine = {one: problem for one, problem in sent.outcomes.items() if one.automation == automation.id}
            untried = [(one.message.id, one.target) for one in sent.untried if one.automation == automation.id]
            if not mine and not untried:
                continue
            try:
                self._outbox(automation).settle(
                    {(one.message.id, one.target): problem for one, problem in mine.items()}, untried
                )
            except VVExportsError as error:
                _LOG.warning("messages of automation %s may be sent twice: %s", one_line(automation.id), error)
        problems = {one.target: problem for one, problem in sent.outcomes.items() if problem is not None}
        for target, problem in problems.items():
            _LOG.warning("target %s was not told, which is tried again: %s", target, problem)
        return Round(sum(problem is None for problem in sent.outcomes.values()), problems)

    def _wanted(self, automation: Automation, message: Message) -> list[str]:
        targets = self._config.targets.items()
        return [name for name, target in targets if target.wants(message.data.event, automation.id)]

    def _outbox(self, automation: Automation) -> Outbox:
        if automation.id not in self._outboxes:
            made = Outbox(self._storage, automation.index_id, automation.name, self._config.tried_for)
            self._outboxes[automation.id] = made
        return self._outboxes[automation.id]


def _target(config: TargetConfig) -> Target:
    """Their libraries are imported for whoever has such a target: every command would take longer."""
    if isinstance(config, AppriseConfig):
        from vv_exports.notifications.apprise_service import AppriseTarget  # noqa: PLC0415

        return AppriseTarget(config)
    from vv_exports.notifications.webhook import WebhookTarget  # noqa: PLC0415

    return WebhookTarget(config)
