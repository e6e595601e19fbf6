"""One writer at a time at a destination whose store does not decide among writers: a lease.

It is kept in the pipeline's ``storage``, which does decide, and which every process of a deployment shares, on whatever
machine and with whatever temporary folder. Who holds it shows now and then that he lives. Who waits takes over what
showed no life for a whole time to live by the clock of the one who waits: no clock of another machine is believed.
Whoever holds one looks whether it is still his before he commits, and again afterwards.

Layout in the pipeline's storage: ``writers/<version>.json.zst``, one document for all destinations.
"""

import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.errors import OutcomeUnknownError, RequestError, TransientError, VVExportsError

TIME_TO_LIVE_SECONDS = 30.0
"""How long a writer that died keeps others waiting."""
_RENEWALS = 3  # in a time to live
_LOOKS = 30  # in a time to live, of one who waits
_FIRST_PAUSE_SECONDS = 0.05
_SAID_AGAIN_SECONDS = 60.0
_FORGOTTEN_AFTER = timedelta(days=30)
_LOG = logging.getLogger(__name__)


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes at a destination. ``token`` tells it from all others. ``alive_at`` is by its own clock: what counts is
    that it changes."""

    token: str
    host: str
    process_id: int
    since: datetime
    alive_at: datetime

    def __str__(self) -> str:
        return f"process {self.process_id} on {self.host}, there since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class Holders(msgspec.Struct, frozen=True, kw_only=True):
    """The present writers, each by the address of its destination."""

    by_destination: dict[str, Holder] = {}


class Lease:
    """The right to write at a destination. This one is of a store that decides among writers: it is never lost."""

    def check(self) -> None:
        """Raise TransientError where it is somebody else's by now."""

    def loss(self) -> str | None:
        """Why it is not ours any more, or may not be; None where it is."""
        return None

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Around a write that must not be followed by another writer's before it has landed."""
        yield


@contextmanager
def only_writer(connector: Connector, subpath: str) -> Iterator[Lease]:
    """Be the only writer of a destination in this deployment, where the storage does not decide.

    Waits for the writer that is there, and says so; for one that died at most ``TIME_TO_LIVE_SECONDS``. Raises
    RequestError where the pipeline's storage does not decide among writers either.
    """
    if connector.decides_among_writers():
        yield Lease()
        return
    storage = connector.pipeline_storage
    if storage is None or not storage.decides_among_writers():
        raise RequestError(
            f"{connector.uri(subpath)} is in a store that does not refuse to create what is there already, so that "
            "writers must take turns, and there is no `storage` in which they could agree; keep `storage` in a store "
            "that does refuse, or in a folder"
        )
    lease = _HeldLease(storage, f"{connector.address}/{subpath}", connector.uri(subpath))
    try:
        lease.acquire()
        yield lease
    finally:
        lease.release()


class _HeldLease(Lease):
    """A lease in the pipeline's storage. A thread renews it."""

    def __init__(self, storage: Connector, destination: str, uri: str) -> None:
        self._holders = VersionedDocument(storage, "writers", Holders, Holders)
        self._destination = destination
        self._uri = uri
        self._token = secrets.token_hex(16)
        self._time_to_live = TIME_TO_LIVE_SECONDS
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._is_in_doubt = False

    def acquire(self) -> None:
        """Wait until nobody else holds it."""
        seen: Holder | None = None
        unchanged_since = said_at = -math.inf
        longest_pause = self._time_to_live / _LOOKS
        pause = min(_FIRST_PAUSE_SECONDS, longest_pause)
        while True:
            looking_at = time.monotonic()
            there = self._there()
            if there is not None and there != seen:
                # Counted from after this look to before a later one: what is the same then was the same in between.
                said_at = said_at if seen is not None and seen.token == there.token else -math.inf
                seen, unchanged_since = there, time.monotonic()
            is_dead = there is not None and looking_at - unchanged_since >= self._time_to_live
            if (there is None or is_dead) and self._take(there):
                break
            if there is not None and looking_at - said_at >= _SAID_AGAIN_SECONDS:
                _LOG.warning("waiting for another writer at %s: %s", self._uri, there)
                said_at = looking_at
            time.sleep(pause)
            pause = min(2 * pause, longest_pause)
        if there is not None:
            _LOG.warning("took over at %s from %s, which showed no life any more", self._uri, there)
        self._renewing.start()

    def check(self) -> None:
        """Look whether it is still ours."""
        if (loss := self._loss(self._there())) is not None:
            raise TransientError(f"{loss}. Nothing is committed; try again.")

    def loss(self) -> str | None:
        """The same as an answer. A storage that cannot be asked does not say that it is ours."""
        try:
            return self._loss(self._there())
        except VVExportsError as error:
            return f"whether this process is still the only writer at {self._uri} is not known: {error}"

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Where it is not known what became of the write, or it was interrupted, it may land later: then nobody is let
        in before the time to live is over."""
        self._is_in_doubt = True
        try:
            yield
        except OutcomeUnknownError:
            raise
        except VVExportsError:
            self._is_in_doubt = False
            raise
        self._is_in_doubt = False

    def release(self) -> None:
        """Let the next one in. What was written stays written, whatever goes wrong here."""
        self._over.set()
        if self._renewing.ident is not None:
            self._renewing.join()
        if self._is_in_doubt:
            return
        try:
            self._holders.update(self._ours(lambda holders: holders.pop(self._destination)))
        except VVExportsError as error:
            _LOG.warning(
                "the next writer at %s waits %g seconds, since this one could not tell that it is done: %s",
                *(self._uri, self._time_to_live, error),
            )

    def _renew(self) -> None:
        def renewed(holders: dict[str, Holder]) -> None:
            us = holders[self._destination]
            holders[self._destination] = msgspec.structs.replace(us, alive_at=datetime.now(UTC))

        while not self._over.wait(self._time_to_live / _RENEWALS):
            try:
                self._holders.update(self._ours(renewed))
            except VVExportsError as error:
                _LOG.info("telling that this process still writes at %s failed: %s", self._uri, error)

    def _there(self) -> Holder | None:
        return self._holders.read().by_destination.get(self._destination)

    def _take(self, from_: Holder | None) -> bool:
        now = datetime.now(UTC)
        us = Holder(token=self._token, host=socket.gethostname(), process_id=os.getpid(), since=now, alive_at=now)

        def taken(holders: Holders) -> Holders | None:
            if holders.by_destination.get(self._destination) != from_:
                return None
            # Whoever was killed at a destination to which nobody comes back is not remembered for ever.
            kept = {at: one for at, one in holders.by_destination.items() if now - one.alive_at < _FORGOTTEN_AFTER}
            return Holders(by_destination={**kept, self._destination: us})

        return self._holders.update(taken).by_destination.get(self._destination) == us

    def _ours(self, change: Callable[[dict[str, Holder]], object]) -> Callable[[Holders], Holders | None]:
        """A change to the document as long as we are in it."""

        def changed(holders: Holders) -> Holders | None:
            if self._loss(holders.by_destination.get(self._destination)) is not None:
                return None
            by_destination = dict(holders.by_destination)
            change(by_destination)
            return Holders(by_destination=by_destination)

        return changed

    def _loss(self, there: Holder | None) -> str | None:
        if there is not None and there.token == self._token:
            return None
        who = "another writer, which is done," if there is None else str(there)
        return (
            f"this process was the only writer at {self._uri} and is not any more: it showed no life for "
            f"{self._time_to_live:g} seconds (it was stopped, or `storage` was out of reach), or `storage` was "
            f"restored, and {who} took over"
        )
