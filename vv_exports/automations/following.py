"""The automations of a deployment: where each began, what it has to do, what became of its deliveries."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vv_exports.automations.backlog import Backlog, backlog, history_of, in_scope
from vv_exports.automations.places import AutomationPlaces
from vv_exports.automations.records import AutomationRecord
from vv_exports.config import AutomationConfig, Config
from vv_exports.connectors.base import Connector
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import read_entry
from vv_exports.delivery.log import read_log
from vv_exports.delivery.state import LogState
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.selection import takes
from vv_exports.errors import DeliveredDataError, UnusableEntryError, VVExportsError
from vv_exports.printable import one_line
from vv_exports.snapshots.catalog import Catalogs, IndexCatalog
from vv_exports.snapshots.store import fingerprint_of
from vv_exports.sources.base import Source

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Runs of which an automation needs a snapshot that there is not, in the order (executed_at, run_id). ``failing``
    could not be read and wait for their next attempt."""

    due: tuple[str, ...]
    failing: tuple[str, ...]


class Following:
    """Built without touching storage. Usable from several threads."""

    def __init__(
        self, config: Config, storage: Connector, connectors: Mapping[str, Connector], catalogs: Catalogs
    ) -> None:
        self._config = config
        self._storage = storage
        self._connectors = connectors
        self._catalogs = catalogs
        self._records: dict[tuple[str, str], AutomationRecord] = {}
        self._places: dict[tuple[str, str], AutomationPlaces] = {}
        self._collections: dict[tuple[str, str], LogState] = {}
        self._guard = threading.Lock()

    def record(self, index_id: str, automation: str) -> AutomationRecord:
        """What is remembered of an automation."""
        with self._guard:
            key = (index_id, automation)
            if key not in self._records:
                self._records[key] = AutomationRecord(self._storage, *key)
            return self._records[key]

    def places(self, index_id: str, automation: str) -> AutomationPlaces:
        """Where an automation delivers and delivered."""
        with self._guard:
            key = (index_id, automation)
            if key not in self._places:
                self._places[key] = AutomationPlaces(self._storage, *key)
            return self._places[key]

    def destination(self, index_id: str, automation: str) -> Destination:
        """Where an automation delivers."""
        config = self._config.automation(index_id, automation)
        owner = Owner(type="automation", index_id=index_id, automation=automation)
        return Destination(self._connectors[config.destination_connector_id], config.subpath, owner)

    def collection(self, index_id: str, automation: str) -> LogState:
        """What an automation's destination holds. The log's replay is kept, so that only new entries are read."""
        destination = self.destination(index_id, automation)
        kept = self._collections.get((index_id, automation))
        # Somebody may have moved the folder away, and another one may have begun in its place.
        if kept is not None and kept.last is not None:
            try:
                if read_entry(destination, kept.last.sequence) != kept.last:
                    kept = None
                elif read_entry(destination, kept.next_sequence) is None:
                    return kept
            except UnusableEntryError:
                kept = None  # reading all of it says what is known from the other entries
        state = read_log(destination, kept.copy() if kept is not None else None)
        self._collections[index_id, automation] = state
        return state

    def begin(self, index_id: str, runs: Sequence[PromptRun], now: datetime) -> list[str]:
        """Let the enabled automations of an index begin that did not begin yet. Returns their names."""
        begun = []
        for name, config in self._enabled(index_id):
            record = self.record(index_id, name)
            try:
                if record.beginning() is not None:
                    continue
                record.begin(config.start, (run.run_id for run in runs if run.deliverable), now)
            except DeliveredDataError as error:
                # Its own sensor fails, and says so. The index's other automations must not wait for it.
                _LOG.warning("automation %s of index %s does not begin: %s", name, one_line(index_id), error)
                continue
            begun.append(name)
            self._say_if_it_began_before(index_id, name)
        return begun

    def _say_if_it_began_before(self, index_id: str, automation: str) -> None:
        try:
            earlier = self.collection(index_id, automation).began_at(f"{index_id}/{automation}")
        except VVExportsError:  # what is wrong there is said when something is to be delivered
            return
        if earlier is not None:
            _LOG.warning(
                "where automation %s of index %s began was lost with the pipeline's storage: the log of its collection "
                "says %s, so that prompt runs that were executed since then are delivered",
                *(automation, index_id, earlier.isoformat(timespec="seconds")),
            )

    def history(
        self, index_id: str, automation: str, state: LogState, executed_at: Mapping[str, datetime]
    ) -> frozenset[str] | None:
        """The runs that an automation leaves alone, since they were finished when it began; None where it did not.
        ``executed_at`` is of the runs in question, by run id; ``state`` is what its collection holds."""
        beginning = self.record(index_id, automation).beginning()
        if beginning is None:
            return None
        return history_of(beginning, state.began_at(f"{index_id}/{automation}"), executed_at)

    def wanted(self, index_id: str, runs: Sequence[PromptRun], source: Source, now: datetime) -> Wanted:
        """The runs that must be read, since an automation follows them and they are new or look changed."""
        catalog = self._catalogs.read(index_id)
        followers = []
        executed_at = {run.run_id: run.executed_at for run in runs}
        for name, config in self._enabled(index_id):
            try:
                if self.record(index_id, name).beginning() is None:
                    continue
                state = self.collection(index_id, name)
            except VVExportsError as error:
                # Its own sensor fails, and says so. The index's other automations must not wait for it.
                _LOG.warning("index %s is read without automation %s: %s", one_line(index_id), name, error)
                continue
            history = self.history(index_id, name, state, executed_at)
            if history is not None:
                followers.append((config, state, history))
        due: list[str] = []
        failing: list[str] = []
        for run in runs:
            if run.deliverable and any(_follows(run, *follower) for follower in followers):
                row = catalog.runs.get(run.run_id)
                if row is None or row.fingerprint != fingerprint_of(source, run):
                    problem = catalog.problems.get(run.run_id)
                    (failing if problem is not None and now < problem.again_at else due).append(run.run_id)
        return Wanted(tuple(due), tuple(failing))

    def backlog(self, index_id: str, automation: str, now: datetime) -> Backlog:
        """What an automation has to do about the snapshots that there are. One that did not begin has nothing to do."""
        record = self.record(index_id, automation)
        if record.beginning() is None:
            return Backlog((), (), (), ())
        catalog = self._catalogs.read(index_id)
        state = self.collection(index_id, automation)
        executed_at = {run_id: row.executed_at for run_id, row in catalog.runs.items()}
        return backlog(
            catalog.runs,
            state,
            self._config.automation(index_id, automation),
            history=self.history(index_id, automation, state, executed_at) or frozenset(),
            problems=record.state().problems,
            gone=catalog.gone.keys(),
            now=now,
        )

    def succeeded(
        self, index_id: str, automation: str, delivered: Iterable[str], problems: Mapping[str, Exception], now: datetime
    ) -> None:
        """A delivery of an automation was made, without the runs in ``problems``."""
        self.record(index_id, automation).succeeded(delivered, problems, now)

    def failed(self, index_id: str, automation: str, error: Exception, now: datetime) -> None:
        """A delivery of an automation failed as a whole; it may pause itself."""
        config = self._config.automation(index_id, automation)
        self.record(index_id, automation).failed(error, config.pause_after_failures, now)

    def catalog(self, index_id: str) -> IndexCatalog:
        """What is known of an index's runs."""
        return self._catalogs.read(index_id)

    def _enabled(self, index_id: str) -> list[tuple[str, AutomationConfig]]:
        return [(name, one) for name, one in self._config.index(index_id).automations.items() if one.enabled]


def _follows(run: PromptRun, config: AutomationConfig, state: LogState, history: frozenset[str]) -> bool:
    delivered = run.run_id in state.runs
    return any(in_scope((run.run_id,), state, history)) and takes(
        run.status, on_status=config.on_status, partial=config.partial, delivered=delivered
    )
