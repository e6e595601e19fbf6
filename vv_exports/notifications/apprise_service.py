"""A service of Apprise: a chat, a mailbox, a pager, and a hundred more."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from vv_exports.config import AppriseConfig
from vv_exports.domain.webhook_secrets import service_address, shown_address
from vv_exports.errors import CredentialsError, NotificationError, RequestError
from vv_exports.notifications.message import Message

_GOOD = {"delivered", "recovered", "resumed"}
_BAD = {"failed", "verification_failed", "late"}


class AppriseTarget:
    """Sends by the service of the Apprise URL that the environment holds."""

    def __init__(self, config: AppriseConfig) -> None:
        self._config = config
        _apprise()  # a package that is missing is a problem of the configuration

    def send(self, message: Message) -> str:
        """See ``Target``."""
        apprise, name = _apprise(), self._config.url_env
        address = service_address(os.environ, name)
        asset = apprise.AppriseAsset(app_id="vv_exports", app_desc="vv_exports", async_mode=False, http_redirects=False)
        services = apprise.Apprise(asset=asset)
        with _ASIDE.kept():
            is_known = services.add(address)
        if not is_known or len(services) != 1:
            raise CredentialsError(
                f"the environment variable {name} must hold one Apprise URL, such as slack://… or mailto://…, and "
                f"holds {len(services) or 'none that Apprise takes'}"
            )
        event = message.data.event
        kind = apprise.NotifyType.SUCCESS if event in _GOOD else apprise.NotifyType.INFO
        if event in _BAD:
            kind = apprise.NotifyType.FAILURE
        with _ASIDE.kept() as said:
            is_sent = services.notify(title=message.title, body=message.data.text, notify_type=kind)
        if not is_sent:
            why = " ".join(_without_secrets(said, address))
            raise NotificationError(f"{shown_address(address)} was not reached, or refused the message. {why}".rstrip())
        return shown_address(address)


class _Aside(logging.Filter):
    """Takes what Apprise logs while this sends: it repeats parts of addresses. What others do with Apprise in the same
    process stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._said: ContextVar[list[str] | None] = ContextVar("said", default=None)

    @contextmanager
    def kept(self) -> Iterator[list[str]]:
        """Around a call: what it logs of warnings and errors."""
        logging.getLogger("apprise").addFilter(self)
        said: list[str] = []
        before = self._said.set(said)
        try:
            yield said
        finally:
            self._said.reset(before)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record goes the usual way."""
        said = self._said.get()
        if said is not None and record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        return said is None


_ASIDE = _Aside()
_SECRET_PART = re.compile(r"[^\W_]{4,}")


def _without_secrets(said: list[str], address: str) -> list[str]:
    """Of lines, those that hold no part of an address but its scheme."""
    parts = set(_SECRET_PART.findall(address.partition("://")[2].lower()))
    return [line for line in said if parts.isdisjoint(_SECRET_PART.findall(line.lower()))]


def _apprise() -> Any:
    try:
        import apprise  # noqa: PLC0415 - an extra, and only whoever sends by it needs it
    except ImportError as error:
        raise RequestError(
            "notifications: the kind apprise needs the package apprise, which is not installed: "
            "`pip install 'vv-exports[apprise]'`"
        ) from error
    return apprise
