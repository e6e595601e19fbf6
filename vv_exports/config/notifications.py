"""Who is told of what: targets of notifications, and the events that they want."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, Tag

from vv_exports.config.fields import AutomationName, Duration, Model, duration, null_is_empty, told_apart_by
from vv_exports.config.fields import variable_name as checked_name
from vv_exports.config.messages import dotted
from vv_exports.domain.events import Event
from vv_exports.domain.webhook_secrets import service_address, webhook_address, webhook_keys
from vv_exports.errors import CredentialsError


def _of_a_variable(value: str) -> str:
    """The name of an environment variable. What is there instead may be a secret, and is not repeated."""
    try:
        return checked_name(value)
    except ValueError:
        raise ValueError(
            "must be the name of an environment variable, such as VV_EXPORTS_WEBHOOK_URL. What it holds does not "
            "belong in this file: set the variable to it"
        ) from None


Variable = Annotated[str, AfterValidator(_of_a_variable)]


class Target(Model):
    """Who is told, and of what."""

    events: frozenset[Event] = Field(min_length=1, description="What is told.")
    automations: frozenset[str] | None = Field(
        default=None,
        min_length=1,
        description="Of which automations, as index/automation, such as idx_archive/review-team. null: of all.",
    )

    def wants(self, event: str, automation_id: str) -> bool:
        """Whether an event of an automation is told."""
        return event in self.events and (self.automations is None or automation_id in self.automations)


class WebhookConfig(Target):
    """A receiver of CloudEvents that are signed as Standard Webhooks has it."""

    kind: Literal["webhook"] = Field(description="Signed CloudEvents are posted to an address.")
    url_env: Variable = Field(description="The name of the environment variable that holds the address.")
    secret_env: Variable = Field(
        description="The name of the environment variable that holds the secret that messages are signed with."
    )


class AppriseConfig(Target):
    """A chat, a mailbox, a pager: whatever Apprise has a service for."""

    kind: Literal["apprise"] = Field(description="Messages are sent by a service of Apprise.")
    url_env: Variable = Field(
        description="The name of the environment variable that holds the Apprise URL, such as slack://… or mailto://…"
    )


TARGETS: dict[str, type[BaseModel]] = {"webhook": WebhookConfig, "apprise": AppriseConfig}

TargetConfig = Annotated[
    Annotated[WebhookConfig, Tag("webhook")] | Annotated[AppriseConfig, Tag("apprise")], told_apart_by("kind")
]


class NotificationsConfig(Model):
    """Who is told of what becomes of automations. Nobody, where there are no targets."""

    targets: Annotated[dict[AutomationName, TargetConfig], BeforeValidator(null_is_empty)] = Field(
        default={}, description="Who is told, by a name."
    )
    give_up_after: Duration = Field(
        default="24h",
        description="How long a message is tried again that could not be sent, such as 24h or 7d. What is older when "
        "it is noticed is not told any more.",
    )

    @property
    def tried_for(self) -> timedelta:
        """``give_up_after`` as a duration."""
        return duration(self.give_up_after)


def notification_problems(config: NotificationsConfig, environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the environment for the targets, each with its place in the file."""
    return [
        f"{dotted(('notifications', 'targets', name, field))}: {error}"
        for name, target in config.targets.items()
        for field, error in _problems_of(target, environment)
    ]


def _problems_of(target: TargetConfig, environment: Mapping[str, str]) -> Iterator[tuple[str, CredentialsError]]:
    read: dict[str, dict[str, Callable[[Mapping[str, str], str], object]]] = {
        "webhook": {"url_env": webhook_address, "secret_env": webhook_keys},
        "apprise": {"url_env": service_address},
    }
    for field, value_of in read[target.kind].items():
        try:
            value_of(environment, getattr(target, field))
        except CredentialsError as error:
            yield field, error
