"""Everything this package raises on purpose, grouped by what the caller does next::

VVExportsError
├── RequestError                 change the request or the configuration; nothing was written (exit 2)
│   ├── ConfigurationError       the configuration file: every problem, each with its path
│   ├── CredentialsError         a key is missing, wrong, or lacks a scope
│   ├── ForbiddenError           storage knows these credentials, and they may not do this
│   ├── NotFoundError            an index, prompt run, connector, automation or export that does not exist
│   ├── DestinationError         a subpath that is malformed, leaves its boundary, or belongs to someone else
│   ├── SelectionError           nothing selected, or a run that cannot be exported
│   ├── NoRoomError              temporary files of a run do not fit the spool: raise its limit, or free its disk
│   └── IdempotencyError         the key was used before, for another request
├── SchemaConflictError          the run waits: files cannot hold its types, and a policy says so
├── ContractBrokenError          the run waits: rows break its prompt's schema, and a policy says so
├── TimelineError                the run waits: a segment has no place in its video, or a video no frame rate
├── SourceDataError              the data is wrong: mend it where it was written, nothing was exported
├── DeliveredDataError           a destination does not hold what its log says: deliver again
│   ├── UnusableEntryError       one entry of its log: restore it, or move it and those behind it out of the folder
│   └── SnapshotDamagedError     a file of the pipeline's own copy of a run is gone or altered: read the run again
├── QuotaError                   an account's quota is used up: wait until it is reset, or have it raised
├── TransientError               try again later; nothing is committed
│   ├── DeliveryConflictError    another delivery committed the same runs meanwhile
│   │   └── StorageSetBackError  a destination holds newer snapshots than the pipeline's storage, which was restored
│   ├── SourceChangedError       a prompt run kept changing while it was read
│   └── TableMovedOnError        somebody else changed a Delta or Iceberg table meanwhile: read it again
├── InstanceError                Dagster's disk or database refuses: mend that, then the same again; commits stay
├── OutcomeUnknownError          a write may have landed: read the destination's log before trying again
├── NotificationError            a message could not be sent: it waits, and is tried again; no delivery depends on it
├── PartlyFailedError            some prompt runs of a batch failed: the others are done; it lists them
│   └── UnreadableRunsError      … since their records are broken: a SourceDataError too
└── RunFailedError               a Dagster run failed: its message is the innermost error's
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vv_exports.printable import counted, one_line

_LISTED = 20


def _restored(kind: "type[VVExportsError]", message: tuple[Any, ...], fields: dict[str, Any]) -> "VVExportsError":
    error = kind.__new__(kind, *message)
    error.__dict__.update(fields)
    return error


def first_few(items: Sequence[str], most: int = _LISTED) -> list[str]:
    """The first of many, and how many more there are."""
    return [*items[:most], *([f"and {len(items) - most} more"] if len(items) > most else [])]


class VVExportsError(Exception):
    """Base of every error that this package raises on purpose. The message is one readable paragraph."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process may raise it, and not every one is made of its message alone.
        return _restored, (type(self), self.args, self.__dict__)


class RequestError(VVExportsError):
    """The request cannot be carried out as it is. Nothing was written."""


class ConfigurationError(RequestError):
    """The configuration is wrong. ``problems`` holds all of them, one line each."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(
            f"{where}: {counted(len(self.problems), 'problem')}\n"
            + "\n".join(f"  - {problem}" for problem in self.problems)
        )


class CredentialsError(RequestError):
    """A key or token is missing, wrong, expired, or lacks a scope. The message names where it comes from, never it."""


class ForbiddenError(RequestError):
    """The credentials are known to the storage, and may not do this. A policy has to be extended."""


class NotFoundError(RequestError):
    """Something was named that does not exist."""


class DestinationError(RequestError):
    """A destination that may not be written to."""


class SelectionError(RequestError):
    """Nothing was selected, or something that cannot be exported."""


class NoRoomError(RequestError):
    """The temporary files of a prompt run do not fit the spool. Nothing of it was delivered; another run may fit."""


class IdempotencyError(RequestError):
    """An idempotency key was used before, for another request."""


class SourceDataError(VVExportsError):
    """What the source holds is broken or contradicts itself."""


class DeliveredDataError(VVExportsError):
    """What a destination holds is not what its log says."""


class UnusableEntryError(DeliveredDataError):
    """One entry of a delivery log cannot be used. ``is_newer`` where a later version of the package wrote it,
    ``is_no_file`` where a link, a folder or a device is in its place."""

    def __init__(self, problem: str, *, is_newer: bool = False, is_no_file: bool = False) -> None:
        self.is_newer = is_newer
        self.is_no_file = is_no_file
        super().__init__(problem)


class SnapshotDamagedError(DeliveredDataError):
    """A file of a snapshot is not there, or not what was written. ``key`` is its place in the pipeline's storage."""

    def __init__(self, message: str, key: str = "") -> None:
        self.key = key
        super().__init__(message)


class SchemaConflictError(VVExportsError):
    """A prompt run has a type in a place that the files of its prompt cannot hold, and it is to wait then."""

    def __init__(self, message: str, run_id: str = "") -> None:
        self.run_id = run_id
        super().__init__(message)


class ContractBrokenError(VVExportsError):
    """Rows of a prompt run break their prompt's JSON Schema, and it is to wait then."""

    def __init__(self, message: str, run_id: str = "") -> None:
        self.run_id = run_id
        super().__init__(message)


class TimelineError(VVExportsError):
    """Segments of a prompt run cannot be put on the line of time of their videos: one has no beginning, or a video has
    no frame rate in the configuration."""


class QuotaError(VVExportsError):
    """A quota of the account is used up. Trying again soon is of no use."""


class TransientError(VVExportsError):
    """It may work later. Nothing was committed."""


class DeliveryConflictError(TransientError):
    """Another delivery committed the same prompt runs since this one read the log."""


class StorageSetBackError(DeliveryConflictError):
    """A destination holds revisions of prompt runs that are above all that the pipeline's storage has. ``revisions``
    are those at the destination, by run id."""

    def __init__(self, message: str, revisions: Mapping[str, int] | None = None) -> None:
        self.revisions = dict(revisions or {})
        super().__init__(message)


class SourceChangedError(TransientError):
    """A prompt run changed each time while it was read, so no reading of it is of one piece."""


class TableMovedOnError(TransientError):
    """A Delta or Iceberg table has another newest version than was thought: it has to be read again."""


class InstanceError(VVExportsError):
    """Dagster's instance cannot be read or written. Deliveries do not depend on it: what was committed stays."""


class OutcomeUnknownError(VVExportsError):
    """A write may have landed: read before writing again, delete nothing."""


class NotificationError(VVExportsError):
    """A message could not be sent. ``is_refused``: the receiver is there, and does not take this one."""

    def __init__(self, message: str, *, is_refused: bool = False) -> None:
        self.is_refused = is_refused
        super().__init__(message)


class PartlyFailedError(VVExportsError):
    """Some prompt runs of a batch could not be read or delivered. ``problems`` says why, by run id."""

    def __init__(self, what: str, done: int, problems: Mapping[str, Exception]) -> None:
        self.problems = dict(problems)
        listed = [f"  - {line}" for line in first_few([f"{one_line(i)}: {error}" for i, error in problems.items()])]
        super().__init__(
            f"{len(problems)} of {done + len(problems)} prompt runs could not be {what}; the other {done} were. They "
            "are tried again later.\n" + "\n".join(listed)
        )


class UnreadableRunsError(PartlyFailedError, SourceDataError):
    """The records of some prompt runs are broken: mend them where they were written. The other runs are done."""


class RunFailedError(VVExportsError):
    """A Dagster run failed. The message is the innermost error's."""
