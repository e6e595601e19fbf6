"""Why a store did not do what it was asked, in one vocabulary for all of them."""

from dataclasses import dataclass, field
from enum import Enum


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


@dataclass(frozen=True)
class Diagnosis:
    """What an error of an SDK means. ``code`` is the store's word for it, or the error's class."""

    cause: Cause
    code: str
    said: str = ""


@dataclass
class Failures:
    """The attempts of one request that failed and were, or would have been, tried again."""

    causes: set[Cause] = field(default_factory=set)

    @property
    def may_have_landed(self) -> bool:
        """Whether one of them may have done its work."""
        return bool(self.causes & MAY_HAVE_LANDED)
