"""Why a store did not do what it was asked, in one vocabulary for all of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import aiohttp

_Error = TypeVar("_Error", bound=Exception)
_PASSING_STATUSES = frozenset({408, 425})
_FIRST_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501


class Cause(Enum):
    """Why a store did not do what it was asked; the value is what to do about it."""

    CREDENTIALS = "put valid credentials there"
    FORBIDDEN = "these credentials may not do this: extend their policy (`vv-exports connectors test` prints it)"
    NO_BUCKET = "create it, or mend its name or endpoint_url in the connector's configuration"
    NO_OBJECT = "there is no such place: mend its name or endpoint_url in the connector's configuration"
    TAKEN = "look who else writes there"
    THROTTLED = "the store is busy: try again later"
    SKEWED = "the clock of this machine and the store's differ: set it right, and try again"
    ELSEWHERE = "the store sends us elsewhere, which is not followed: mend endpoint_url or region in the configuration"
    UNREACHABLE = "the store is out of reach: look at endpoint_url and the network, or try again later"
    INTERRUPTED = "the connection or the store failed: try again later"
    TIMEOUT = "the store did not answer in time: try again later"
    REFUSED = "mend the connector's configuration or its policy"


PASSING = frozenset({Cause.THROTTLED, Cause.SKEWED, Cause.UNREACHABLE, Cause.INTERRUPTED, Cause.TIMEOUT})
MAY_HAVE_LANDED = frozenset({Cause.INTERRUPTED, Cause.TIMEOUT})


CausesOfErrors = Sequence[tuple[type[BaseException], Cause]]
"""Classes of errors and what they mean; the first that fits holds."""

_OF_CONNECTIONS: CausesOfErrors = (
    (aiohttp.ClientConnectorError, Cause.UNREACHABLE),
    (aiohttp.ClientHttpProxyError, Cause.UNREACHABLE),
    (aiohttp.ConnectionTimeoutError, Cause.UNREACHABLE),
    (aiohttp.InvalidURL, Cause.REFUSED),
    (aiohttp.NonHttpUrlClientError, Cause.REFUSED),
    (TimeoutError, Cause.TIMEOUT),
    (aiohttp.ClientError, Cause.INTERRUPTED),
    (ConnectionRefusedError, Cause.UNREACHABLE),
    (OSError, Cause.INTERRUPTED),
)


def cause_of_error(error: BaseException, of_the_sdk: CausesOfErrors) -> Cause:
    """What an error means that is no answer of the store: by the SDK's classes, then by those of the connection."""
    return next(cause for kind, cause in (*of_the_sdk, *_OF_CONNECTIONS) if isinstance(error, kind))


def cause_of_status(status: int) -> Cause:
    """What an answer means of which nothing but the status is known: of a gateway before the store, say."""
    passes = status in _PASSING_STATUSES or (status >= _FIRST_SERVER_ERROR and status != _NOT_IMPLEMENTED)
    return Cause.INTERRUPTED if passes else Cause.REFUSED


@dataclass(frozen=True)
class Diagnosis:
    """What an error of an SDK means. ``code`` is the store's word for it, or the error's class."""

    cause: Cause
    code: str
    said: str = ""


class UploadLostError(Exception):
    """The store does not have what it was sent of an upload in parts. ``error`` is what it said, ``code`` its word."""

    def __init__(self, error: Exception, code: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code


@contextmanager
def telling_losses(kind: type[_Error], code_of: Callable[[_Error], str], lost: frozenset[str]) -> Iterator[None]:
    """Around requests of an upload in parts: tell what the store has lost, by its codes, from what it refuses."""
    try:
        yield
    except kind as error:
        if (code := code_of(error)) in lost:
            raise UploadLostError(error, code) from None
        raise


@dataclass
class Failures:
    """The attempts of one request that failed and were, or would have been, tried again."""

    causes: set[Cause] = field(default_factory=set)

    @property
    def may_have_landed(self) -> bool:
        """Whether one of them may have done its work."""
        return bool(self.causes & MAY_HAVE_LANDED)
