"""The automations of a deployment: where each began, what it has to do, what became of its deliveries."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vv_exports.automations.backlog import Backlog, backlog, in_scope
from vv_exports.automations.records import AutomationRecord
from vv_exports.config import AutomationConfig, Config
from vv_exports.connectors.base import Connector
from vv_exports.delivery.log import LogState, read_entry, read_log
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.selection import takes
from vv_exports.errors import VVExportsError
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
        self._collections: dict[tuple[str, str], LogState] = {}
        self._guard = threading.Lock()

    def record(self, index_id: str, automation: str) -> AutomationRecord:
        """What is remembered of an automation."""
        with self._guard:
            key = (index_id, automation)
            if key not in self._records:
                self._records[key] = AutomationRecord(self._storage, *key)
            return self._records[key]

    def collection(self, index_id: str, automation: str) -> LogState:
        """What an automation's destination holds. The log's replay is kept, so that only new entries are read."""
        config = self._config.automation(index_id, automation)
        connector = self._connectors[config.destination_connector_id]
        kept = self._collections.get((index_id, automation))
        # Somebody may have moved the folder away, and another one may have begun in its place.
        if kept is not None and kept.entries:
            last = kept.entries[-1]
            if read_entry(connector, config.subpath, last.sequence) != last:
                kept = None
            elif read_entry(connector, config.subpath, kept.next_sequence) is None:
                return kept
        state = read_log(connector, config.subpath, kept.copy() if kept is not None else None)
        self._collections[index_id, automation] = state
        return state

    def begin(self, index_id: str, runs: Sequence[PromptRun], now: datetime) -> list[str]:
        """Let the enabled automations of an index begin that did not begin yet. Returns their names."""
        begun = []
        for name, config in self._enabled(index_id):
            record = self.record(index_id, name)
            if record.beginning() is None:
                record.begin(config.start, (run.run_id for run in runs if run.deliverable), now)
                begun.append(name)
        return begun

    def wanted(self, index_id: str, runs: Iterable[PromptRun], source: Source, now: datetime) -> Wanted:
        """The runs that must be read, since an automation follows them and they are new or look changed."""
        catalog = self._catalogs.read(index_id)
        followers = []
        for name, config in self._enabled(index_id):
            beginning = self.record(index_id, name).beginning()
            if beginning is not None:
                try:
                    followers.append((config, self.collection(index_id, name), beginning.history))
                except VVExportsError as error:
                    # Its own sensor fails, and says so. The index's other automations must not wait for it.
                    _LOG.warning("index %s is read without automation %s: %s", one_line(index_id), name, error)
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
        beginning = record.beginning()
        if beginning is None:
            return Backlog((), (), (), ())
        catalog = self._catalogs.read(index_id)
        return backlog(
            catalog.runs,
            self.collection(index_id, automation),
            self._config.automation(index_id, automation),
            history=beginning.history,
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
