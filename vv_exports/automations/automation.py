"""An export automation: what it delivers to where, what is remembered of it, and what each run's standing is."""

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Literal

from vv_exports.automations.places import AutomationPlaces
from vv_exports.automations.records import AutomationRecord, Beginning, Remembered
from vv_exports.automations.standing import Standings, standings
from vv_exports.automations.verifications import Verifications
from vv_exports.config import Config, check_apart
from vv_exports.connectors.base import Connector
from vv_exports.delivery.cards.files import write_card
from vv_exports.delivery.content import Content, RedactionKey, content_of
from vv_exports.delivery.deliver import DeliveryRequest
from vv_exports.delivery.destination import Destination, Owner
from vv_exports.delivery.entry import ExportReference, read_entry
from vv_exports.delivery.holdings import Holdings
from vv_exports.delivery.log import read_holdings, read_log
from vv_exports.delivery.ownership import claim_again
from vv_exports.delivery.state import LogState, Replay
from vv_exports.errors import SelectionError, UnusableEntryError, VVExportsError
from vv_exports.snapshots.catalog import KnownRuns
from vv_exports.snapshots.store import Snapshot
from vv_exports.snapshots.taking import Snapshots
from vv_exports.table_formats.collection import CollectionTables
from vv_exports.table_formats.registry import table_formats_of

_LOG = logging.getLogger(__name__)


class Automation:
    """Built without touching storage. Usable from several threads."""

    def __init__(  # noqa: PLR0917
        self,
        index_id: str,
        name: str,
        config: Config,
        connectors: Mapping[str, Connector],
        snapshots: Snapshots,
        redaction_key: RedactionKey,
    ) -> None:
        self.index_id = index_id
        self.name = name
        self.config = config.automation(index_id, name)
        self.snapshots = snapshots
        self.destination = Destination(
            connectors[self.config.destination_connector_id],
            self.config.subpath,
            Owner(type="automation", index_id=index_id, automation=name),
        )
        self._redaction_key = redaction_key
        self.tables = CollectionTables(snapshots.storage, index_id, name, table_formats_of(self.config.registered))
        self.record = AutomationRecord(snapshots.storage, index_id, name)
        self.verifications = Verifications(snapshots.storage, index_id, name)
        self.places = AutomationPlaces(snapshots.storage, connectors, index_id, name)
        self._deployment = config
        self._state: LogState | None = None
        self._held: Holdings | None = None

    @cached_property
    def content(self) -> Content:
        """What it delivers of a snapshot. Raises CredentialsError where it redacts by hash, and there is no key."""
        return content_of(self.config.content, self._redaction_key)

    @property
    def id(self) -> str:
        """How the log names it."""
        return f"{self.index_id}/{self.name}"

    @property
    def reference(self) -> ExportReference:
        """What entries of its log say of who wrote them."""
        beginning = self.record.beginning()
        return ExportReference(
            id=self.id,
            type="automation",
            index_id=self.index_id,
            automation=self.name,
            began_at=None if beginning is None else beginning.began_at,
        )

    def reading(self, destination: Destination) -> "Automation":
        """The same automation, which reads its collection as ``destination`` has it."""
        other = copy.copy(self)
        vars(other).update(destination=destination, _state=None, _held=None)
        return other

    def check_enabled(self) -> None:
        """Raise SelectionError where the configuration disables it."""
        if not self.config.enabled:
            raise SelectionError(
                f"automation {self.name!r} of index {self.index_id!r} is disabled in the configuration; set "
                "`enabled: true` to run it"
            )

    def collection(self) -> LogState:
        """What its destination holds. The log's replay is kept, so that only new entries are read."""
        kept = self._state
        if kept is None or (place := self._place_of(kept)) != "its end":
            self._state = kept = read_log(self.destination, None if kept is None or place == "lost" else kept.copy())
        return kept

    def holdings(self) -> Replay:
        """The same without the files, where they are not there already: for a process that asks again and again what is
        to be delivered, and does not deliver it."""
        if self._state is not None:
            return self.collection()
        kept = self._held
        if kept is None or (place := self._place_of(kept)) != "its end":
            self._held = kept = read_holdings(
                self.destination, None if kept is None or place == "lost" else kept.copy()
            )
        return kept

    def last_delivery_at(self) -> datetime | None:
        """When the last of the deliveries was committed that brought what the collection holds; None where it holds
        nothing."""
        entries = [held.entry for held in self.holdings().runs.values()]
        last = max(entries, key=lambda entry: entry.sequence, default=None)
        return None if last is None else datetime.fromisoformat(last.committed_at)

    def replay_log(self) -> None:
        """Replay the log for ``holdings``, where nothing is kept of an earlier replay."""
        if self._state is None and self._held is None:
            self._held = read_holdings(self.destination)

    def _place_of(self, kept: Replay) -> Literal["its end", "behind", "lost"]:
        """Where in the log a replay ends. Somebody may have moved the folder away, and another one may have begun in
        its place."""
        if kept.last is None:
            return "behind"
        try:
            if read_entry(self.destination, kept.last.sequence) != kept.last:
                return "lost"
            return "its end" if read_entry(self.destination, kept.next_sequence) is None else "behind"
        except UnusableEntryError:
            return "lost"  # reading all of it says what is known from the other entries

    def kept_snapshots(self, run_ids: Sequence[str], mending: Collection[str] = ()) -> dict[str, Snapshot]:
        """The snapshots that there are of runs whose content the collection holds, though not in the shape that it
        should have. Those in ``mending`` may have that, or be lost to the log."""
        state, found = self.collection(), {}
        for run_id in run_ids:
            held, is_mended = state.runs.get(run_id), run_id in mending
            if not is_mended and (held is None or self.content.up_to_date(state)(held)):
                continue
            snapshot = self.snapshots.store.current(self.index_id, run_id)
            if snapshot is None:
                continue
            if held is None or held.holds(snapshot.data_version, snapshot.status):
                found[run_id] = snapshot
        return found

    def claim_again(self, now: datetime) -> None:
        """Put the owner file of the collection back where it is lost and the log is the automation's, or where that had
        left it. Then it is where the automation delivers, whether or not anything is due.

        Raises DestinationError where the folder is somebody else's.
        """
        if (state := self.collection()).last is not None:
            claim_again(self.destination, state)
            self.places.settle(self.destination, now)

    def standings(
        self,
        known: KnownRuns,
        *,
        state: Replay | None = None,
        beginning: Beginning | None = None,
        damaged: Collection[str] = (),
        unfinished: Collection[str] = (),
        named: Collection[str] = (),
    ) -> Standings:
        """The standing of each run of its index. ``state`` is what the collection holds, where that is known;
        ``beginning`` is how the automation would begin, where it did not;
        ``damaged`` and ``unfinished`` are what a survey of its destination found; ``named`` were asked for."""
        state = self.holdings() if state is None else state
        # A run of which there is a snapshot as it is now need not be read, whatever kept it from being read before.
        unread = {
            run_id: problem
            for run_id, problem in known.problems.items()
            if (row := known.rows.get(run_id)) is not None and row.data_version is None
        }
        remembered = self.record.state()
        return standings(
            known.rows,
            state,
            self.config,
            self.content,
            beginning=self.record.beginning() or beginning,
            began_at=state.began_at(self.id),
            problems={**unread, **remembered.problems},
            conflicts=self._conflicts(remembered),
            broken=self._waiting(remembered, "contract"),
            gone=known.gone,
            damaged=damaged,
            unfinished=unfinished,
            named=named,
        )

    def _conflicts(self, remembered: Remembered) -> dict[str, str]:
        """The data versions of the runs that are to wait here: documents hold any types, and so do other files."""
        if not self.content.options.format.has_columns:
            return {}
        return self._waiting(remembered, "conflict")

    def _waiting(self, remembered: Remembered, why: Literal["conflict", "contract"]) -> dict[str, str]:
        here = self.destination.uri
        found = {run_id: one for run_id, one in remembered.conflicts.items() if one.uri == here and one.why == why}
        return {run_id: one.data_version for run_id, one in found.items()}

    def follow_tables(self) -> None:
        """Bring the tables of open table formats to the end of the log, where they are not there. What goes wrong with
        them is remembered, and raised by nobody."""
        if self.tables.formats:
            try:
                state = self.collection()
            except VVExportsError as error:  # whoever delivers says it, too
                _LOG.warning("tables of %s do not follow its log: %s", self.destination.uri, error)
            else:
                self.tables.follow(self.destination, state, self.snapshots.clock())

    def _follow_commit(self, state: LogState) -> None:
        self.tables.follow(self.destination, state, self.snapshots.clock(), is_only_writer=True)

    def write_card(self) -> None:
        """Bring the dataset card of its collection up to date, where it keeps one. Nothing depends on it, so what goes
        wrong is a warning, and the next delivery or reconciliation writes it."""
        if not self.config.dataset_card:
            return
        texts, written = self._deployment.index(self.index_id).dataset.texts, -1
        try:
            while (state := self.collection()).next_sequence > written:  # another delivery may have come meanwhile
                written = state.next_sequence
                write_card(self.destination, state, texts)
        except VVExportsError as error:
            _LOG.warning("%s: the dataset card is not brought up to date: %s", self.destination.uri, error)

    def failed(self, error: Exception, now: datetime) -> None:
        """Remember that a delivery failed as a whole. It may pause itself."""
        self.record.failed(error, self.config.pause_after_failures, now)

    def delivery_of(
        self, snapshots: Sequence[Snapshot], dagster_run_id: str | None, damaged: frozenset[str] = frozenset()
    ) -> DeliveryRequest:
        """The delivery of these snapshots; committed files in ``damaged`` are written again.

        Raises DestinationError where links lead the destination elsewhere since the start.
        """
        check_apart(self._deployment, self.config.destination_connector_id, self.config.subpath)
        return DeliveryRequest(
            destination=self.destination,
            export=self.reference,
            content=self.content,
            snapshots=snapshots,
            dagster_run_id=dagster_run_id,
            damaged=damaged,
            retain_superseded=self.config.superseded_kept,
            on_commit=self._follow_commit if self.tables.formats else None,
        )
