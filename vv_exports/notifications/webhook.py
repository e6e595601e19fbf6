"""A webhook: a CloudEvent in JSON, signed as Standard Webhooks has it."""

import base64
import os
import ssl
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent
from msgspec import to_builtins
from standardwebhooks import Webhook as Signer

from vv_exports import __version__
from vv_exports.config import WebhookConfig
from vv_exports.domain.webhook_secrets import shown_address, webhook_address, webhook_keys
from vv_exports.errors import NotificationError
from vv_exports.notifications.message import Message

_SECONDS = 5.0
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class WebhookTarget:
    """Posts to the address that the environment holds. Follows no redirect, and reads no answer but its status."""

    def __init__(self, config: WebhookConfig) -> None:
        self._config = config

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        """Reading the certificates of the world takes longer than sending."""
        return httpx.create_ssl_context()

    def send(self, message: Message) -> str:
        """See ``Target``."""
        address = webhook_address(os.environ, self._config.url_env)
        shown = shown_address(address)
        request = _request(message, address, webhook_keys(os.environ, self._config.secret_env))
        try:
            # The transport itself: a client would log the whole address.
            with httpx.HTTPTransport(verify=self._trusted, proxy=_proxy(address)) as transport:
                response = transport.handle_request(request)
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as error:  # some proxies need more
            kind = type(error).__name__
            raise NotificationError(f"{shown} was not reached: {kind}: {error}".rstrip(": ")) from None
        status = response.status_code
        if 300 <= status < 400:  # noqa: PLR2004 - of HTTP
            raise NotificationError(
                f"{shown} answered {status}, which leads elsewhere and is not followed: let {self._config.url_env} "
                "hold the address itself",
                is_refused=True,
            )
        if not 200 <= status < 300:  # noqa: PLR2004 - of HTTP
            is_refused = 400 <= status < 500 and status not in _LATER  # noqa: PLR2004 - of HTTP
            raise NotificationError(f"{shown} answered {status}", is_refused=is_refused)
        return shown


def cloud_event(message: Message) -> tuple[dict[str, str], bytes]:
    """A message as a CloudEvent in JSON: headers and body."""
    attributes = {"id": message.id, "source": message.source, "type": message.type, "time": message.at}
    if isinstance(message.data.destination_uri, str):
        attributes["subject"] = message.data.destination_uri
    made = to_structured_event(CloudEvent(attributes, to_builtins(message.data)))
    return made.headers, made.body


def _request(message: Message, address: str, keys: list[bytes]) -> httpx.Request:
    headers, body = cloud_event(message)
    now = datetime.now(UTC)
    headers |= {
        "user-agent": f"vv_exports/{__version__}",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Signer(key).sign(message.id, now, body.decode()) for key in keys),
    }
    url = urlsplit(address)
    if url.username is not None:
        user = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    return httpx.Request(
        "POST",
        url._replace(netloc=url.netloc.rpartition("@")[2]).geturl(),
        headers=headers,
        content=body,
        extensions={"timeout": httpx.Timeout(_SECONDS).as_dict()},
    )


def _proxy(address: str) -> str | None:
    """The proxy that the environment names for an address."""
    url = urlsplit(address)
    if proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
