"""Notifications through the client: trying targets, what is still to be sent, sending it now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.notifications import pauses
from vv_exports.errors import RequestError, VVExportsError
from vv_exports.notifications.message import Message, data_schema
from vv_exports.notifications.notifier import Round
from vv_exports.notifications.outbox import Attempts

__all__ = ["Notifications", "Round", "Trial", "UnsentMessage", "data_schema"]


@dataclass(frozen=True)
class Trial:
    """A test message to a target. ``sent_to`` shows no secret; ``error`` is why it did not arrive."""

    target: str
    outcome: Literal["sent", "failed"]
    sent_to: str | None = None
    error: VVExportsError | None = None


@dataclass(frozen=True)
class UnsentMessage:
    """A message that did not reach a target. ``waiting``: it is tried again at ``again_at``, or by whoever comes next;
    ``given up``: it is not."""

    index_id: str
    automation: str
    event: str
    at: str
    target: str
    state: Literal["waiting", "given up"]
    attempts: int
    again_at: str | None
    problem: str | None
    id: str
    text: str


_ENOUGH_SECONDS = 60.0


@tells_of_the_instance
class Notifications:
    """Who is told of what becomes of automations."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def test(self, target: str | None = None) -> Sequence[Trial]:
        """Send a test message to a target of the configuration, or to each. Raises RequestError where there are none,
        NotFoundError for one that is not there."""
        notifications = self._deployment.pipeline.notifications
        if not notifications.are_wanted:
            raise RequestError(
                "nobody is to be told: the configuration has no targets under `notifications`; add one first"
            )
        return [_tried(self._deployment, one) for one in ([target] if target is not None else notifications.targets)]

    def list(self) -> Sequence[UnsentMessage]:
        """The messages that did not arrive yet, and the last ones of each automation that were given up."""
        pipeline = self._deployment.pipeline
        found: list[UnsentMessage] = []
        for unsent in pipeline.notifications.unsent(pipeline.automations):
            found += [
                _unsent(one.message, target, attempts, "waiting")
                for one in unsent.waiting
                for target, attempts in one.to.items()
            ]
            found += [_unsent(one.message, one.target, one.attempts, "given up") for one in unsent.given_up]
        return sorted(found, key=lambda one: one.at)

    def send(self) -> Round:
        """Look what is new of all automations, and send it, with what is to be tried again by now: what the Dagster
        daemon does, where there is one."""
        deployment = self._deployment
        pause_of = pauses(deployment.names, deployment.instance_if_made)
        return deployment.pipeline.notifications.tell(deployment.pipeline.automations, pause_of, _ENOUGH_SECONDS)


def _tried(deployment: Deployment, target: str) -> Trial:
    try:
        return Trial(target, "sent", sent_to=deployment.pipeline.notifications.test(target))
    except VVExportsError as error:
        return Trial(target, "failed", error=error)


def _unsent(message: Message, target: str, attempts: Attempts, state: Literal["waiting", "given up"]) -> UnsentMessage:
    data = message.data
    again_at = attempts.again_at if state == "waiting" else None
    return UnsentMessage(
        index_id=str(data.index_id),
        automation=str(data.automation),
        event=data.event,
        at=message.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        target=target,
        state=state,
        attempts=attempts.count,
        again_at=None if again_at is None else again_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        problem=attempts.problem,
        id=message.id,
        text=data.text,
    )
