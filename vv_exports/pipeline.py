"""The pipeline of one deployment: its source, its snapshots, its connectors, and what it does with them.

Everything that an asset, the client or the command line asks for ends here. It knows nothing of Dagster.
"""

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from vv_exports.automations.following import Following
from vv_exports.automations.reconciliation import Reconciliation, sample_damage
from vv_exports.config import AutomationConfig, Config, check_apart
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import Connectors, open_connectors
from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.deliver import Delivery, DeliveryRequest, claim_again, deliver, holds, is_delivered
from vv_exports.delivery.isolation import deliver_isolated
from vv_exports.delivery.log import ExportReference, LogState
from vv_exports.delivery.mending import runs_to_mend
from vv_exports.delivery.ownership import Owner
from vv_exports.domain.failures import problem_of
from vv_exports.domain.progress import Progress
from vv_exports.domain.prompt_runs import PromptRun
from vv_exports.domain.selection import chosen_runs, eligible_runs, missing_message
from vv_exports.errors import (
    CredentialsError,
    NotFoundError,
    RequestError,
    SelectionError,
    SnapshotDamagedError,
    StorageSetBackError,
    VVExportsError,
)
from vv_exports.exports.on_demand import Exports
from vv_exports.formats.catalog import format_named
from vv_exports.printable import one_line
from vv_exports.snapshots.batch import Batch, TakenSnapshot, finished_runs, take_snapshots
from vv_exports.snapshots.catalog import Catalogs
from vv_exports.snapshots.faults import OF_ONE_RUN
from vv_exports.snapshots.store import Snapshot, SnapshotStore, check_deliverable, fingerprint_of
from vv_exports.sources.base import Listing, Platform, Source
from vv_exports.sources.catalog import SOURCES
from vv_exports.sources.checking import both_deliver

_LOG = logging.getLogger(__name__)
_AUTOMATION_UNKNOWN = "whether index %s has an export automation at the platform is not known: %s"


class Pipeline:
    """Built once from a configuration, without touching storage or network."""

    def __init__(
        self,
        config: Config,
        *,
        source: Source,
        storage: Connector,
        connectors: dict[str, Connector],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.source = source
        self.storage = storage
        self.store = SnapshotStore(storage)
        self.catalogs = Catalogs(storage)
        self.connectors = Connectors(connectors)
        for connector in (storage, *connectors.values()):
            connector.remember_in(storage)
        self.following = Following(config, storage, self.connectors, self.catalogs)
        self.clock = clock
        self.progress = progress or Progress()
        self.exports = Exports(
            config,
            storage,
            self.connectors,
            listing=self.listing,
            deliver=self.deliver,
            clock=clock,
        )
        self._warned: set[str] = set()

    @classmethod
    def from_config(cls, config: Config, progress: Progress | None = None) -> "Pipeline":
        """The pipeline that a configuration describes."""
        kept = config.storage
        configured = {f"connectors.{connector_id}": one for connector_id, one in config.connectors.items()}
        if not isinstance(kept, str):
            configured["storage"] = kept
        opened = open_connectors({place: one.model_dump() for place, one in configured.items()})
        return cls(
            config,
            source=SOURCES[config.source.kind](**config.source.model_dump(exclude={"kind"})),
            storage=LocalConnector("storage", kept, make_root=True) if isinstance(kept, str) else opened["storage"],
            connectors={key: opened[f"connectors.{key}"] for key in config.connectors},
            progress=progress,
        )

    # Prompt runs and their snapshots

    def listing(self, index_id: str) -> Listing:
        """All runs of an index, and those whose record cannot be read. Raises NotFoundError."""
        self._check_index(index_id)
        self._warn_of_upstream_automation(index_id)
        return self.source.listing(index_id)

    def prompt_runs(self, index_id: str) -> list[PromptRun]:
        """All runs of an index in the order (executed_at, run_id). Raises NotFoundError, and SourceDataError where the
        record of any cannot be read."""
        return self.listing(index_id).complete()

    def note_unreadable(self, listing: Listing, index_id: str) -> None:
        """Remember the runs whose record cannot be read among the index's problems, once for each reason."""
        before = self.catalogs.read(index_id).problems
        found = {run_id: problem_of(error, None, self.clock()) for run_id, error in listing.problems.items()}
        known = {run_id: problem.message for run_id, problem in before.items()}
        news = {run_id: problem for run_id, problem in found.items() if known.get(run_id) != problem.message}
        if news:
            self.catalogs.record(index_id, (), news)

    def _warn_of_upstream_automation(self, index_id: str) -> None:
        """Once for each index that this pipeline delivers: it would be delivered twice."""
        if index_id in self._warned or not self.config.indexes[index_id].automations:
            return
        self._warned.add(index_id)
        if isinstance(self.source, Platform):
            try:
                automation = self.source.upstream_automation(index_id)
            except CredentialsError as error:  # what exports need may be allowed nevertheless
                _LOG.info(_AUTOMATION_UNKNOWN, one_line(index_id), error)
                return
            except VVExportsError as error:
                _LOG.warning(_AUTOMATION_UNKNOWN, one_line(index_id), error)
                return
            if automation is not None and automation.active:
                _LOG.warning("%s", both_deliver(index_id, automation))

    def runs_named(self, index_id: str, run_ids: Sequence[str]) -> list[PromptRun]:
        """These finished runs of an index, in the order (executed_at, run_id)."""
        self._check_index(index_id)
        runs, problems = [], []
        for run_id in run_ids:
            try:
                run = self.source.prompt_run(index_id, run_id)
                check_deliverable(run)
                runs.append(run)
            except RequestError as error:
                problems.append(error)
        if len(problems) > 1:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise SelectionError(
                f"{len(problems)} of {len(run_ids)} prompt runs of index {index_id!r} cannot be exported, and nothing "
                f"was:\n{listed}"
            )
        if problems:
            raise problems[0]
        return sorted(runs, key=lambda run: (run.executed_at, run.run_id))

    def snapshots(self, runs: Sequence[PromptRun]) -> list[TakenSnapshot]:
        """A snapshot of each run; those of new and changed runs are taken now. Raises what the first one raises."""
        return list(self._take(runs).taken)

    def snapshot_batch(self, index_id: str, run_ids: Sequence[str]) -> Batch:
        """Snapshots of these runs, as far as they can be had: one that cannot does not stand in the others' way.

        Raises what is no fault of a single run: a source that is out of reach, a key that is wrong.
        """
        self._check_index(index_id)
        runs, problems = finished_runs(self.source, index_id, run_ids)
        batch = self._take(runs, isolated=OF_ONE_RUN)
        problems.update(batch.problems)
        if problems:
            now, before = self.clock(), self.catalogs.read(index_id).problems
            noted = {run_id: problem_of(error, before.get(run_id), now) for run_id, error in problems.items()}
            self.catalogs.record(index_id, (), noted)
        return Batch(batch.taken, problems)

    def _check_storage(self) -> None:
        """Several processes share the pipeline's own storage, and nothing else keeps them apart there."""
        if not self.storage.decides_among_writers():
            raise RequestError(
                f"storage: {self.storage.uri('')} does not refuse to create an object that is there already, so "
                "processes that meet would lose each other's snapshots; keep `storage` in a store that does, or in a "
                "folder"
            )

    def _take(self, runs: Sequence[PromptRun], isolated: tuple[type[Exception], ...] = ()) -> Batch:
        self._check_storage()
        return take_snapshots(
            self.source,
            self.store,
            self.catalogs,
            runs,
            clock=self.clock,
            progress=self.progress.snapshot,
            isolated=isolated,
        )

    # Automations

    def eligible(
        self, index_id: str, automation: str, runs: Sequence[PromptRun], run_ids: Sequence[str] | None = None
    ) -> list[PromptRun]:
        """Those of an index's runs that an automation delivers; with ``run_ids`` just these, held ones included."""
        config = self.config.automation(index_id, automation)
        if run_ids is not None:
            return chosen_runs(runs, run_ids, index_id=index_id)
        delivered = self.collection(index_id, automation).runs
        return eligible_runs(runs, on_status=config.on_status, partial=config.partial, delivered=delivered)

    def check_enabled(self, index_id: str, automation: str) -> None:
        """Raise SelectionError for an automation that the configuration disables."""
        if not self.config.automation(index_id, automation).enabled:
            raise SelectionError(
                f"automation {automation!r} of index {index_id!r} is disabled in the configuration; set "
                "`enabled: true` to run it"
            )

    def collection(self, index_id: str, automation: str) -> LogState:
        """What an automation's destination holds."""
        return self.following.collection(index_id, automation)

    def up_to_date(self, run: PromptRun, automation: AutomationConfig, state: LogState) -> bool:
        """Whether a collection holds a run as it is now, as far as can be told without reading the run again."""
        if run.run_id not in state.runs:
            return False  # the usual case of a run that is not: the store need not be asked
        row = self.catalogs.read(run.index_id).runs.get(run.run_id)
        if row is not None and row.fingerprint == fingerprint_of(self.source, run):
            return holds(state, run.run_id, row.data_version, row.status, automation.format)
        snapshot = self.store.unchanged(self.source, run)
        return snapshot is not None and is_delivered(state, snapshot, automation.format)

    def unfinished(self, index_id: str, automation: str, runs: Sequence[PromptRun], state: LogState) -> set[str]:
        """The runs of which a collection lacks files, or holds some that a killed delivery left; delivering them again
        mends that."""
        config = self.config.automation(index_id, automation)
        connector = self.connectors[config.destination_connector_id]
        return runs_to_mend(connector, config.subpath, state, [run.run_id for run in runs])

    def claim_again(self, index_id: str, automation: str, state: LogState) -> None:
        """Put the owner file of a collection back where it is lost and the log is the automation's. ``state`` is that.

        Raises DestinationError where the folder is somebody else's.
        """
        config = self.config.automation(index_id, automation)
        if state.entries:
            owner = Owner(type="automation", index_id=index_id, automation=automation)
            claim_again(self.connectors[config.destination_connector_id], config.subpath, owner, state)

    def automation_delivery(
        self, index_id: str, automation: str, snapshots: Sequence[Snapshot], dagster_run_id: str | None
    ) -> DeliveryRequest:
        """The delivery of an automation. Raises DestinationError where links lead it elsewhere since the start."""
        config = self.config.automation(index_id, automation)
        check_apart(self.config, config.destination_connector_id, config.subpath)
        beginning = self.following.record(index_id, automation).beginning()
        return DeliveryRequest(
            connector=self.connectors[config.destination_connector_id],
            subpath=config.subpath,
            owner=Owner(type="automation", index_id=index_id, automation=automation),
            export=ExportReference(
                id=f"{index_id}/{automation}",
                type="automation",
                index_id=index_id,
                automation=automation,
                began_at=None if beginning is None else beginning.began_at,
            ),
            format=format_named(config.format),
            snapshots=snapshots,
            dagster_run_id=dagster_run_id,
        )

    def reconcile(
        self, index_id: str, automation: str, dagster_run_id: str | None
    ) -> tuple[Reconciliation, list[Snapshot], list[Delivery]]:
        """Compare an automation's collection with its index, and put it right.

        Asks the source for every run; looks at the names and sizes of all delivered files, and reads some of them.
        """
        self.check_enabled(index_id, automation)
        config = self.config.automation(index_id, automation)
        connector = self.connectors[config.destination_connector_id]
        listing = self.listing(index_id)
        listed = listing.runs
        state = self.collection(index_id, automation)
        self.claim_again(index_id, automation, state)
        executed_at = {run.run_id: run.executed_at for run in listed}
        history = self.following.history(index_id, automation, state, executed_at)
        if history is None:
            history = frozenset(executed_at)
        eligible = self.eligible(index_id, automation, listed)
        runs = [run for run in eligible if run.run_id in state.runs or run.run_id not in history]
        verified, damaged = sample_damage(connector, config.subpath, state, random.Random())  # noqa: S311
        untidy = self.unfinished(index_id, automation, runs, state)
        untidy |= {file.prompt_run_id for file in verified if file.path in damaged}
        stale = [run.run_id for run in runs if not self.up_to_date(run, config, state)]
        either = untidy.union(stale)
        todo = [run.run_id for run in runs if run.run_id in either]
        snapshots: list[Snapshot] = []
        deliveries: list[Delivery] = []
        problems: dict[str, Exception] = dict(listing.problems)
        size = config.max_runs_per_delivery
        for start in range(0, len(todo), size):
            batch = self.automation_batch(index_id, automation, todo[start : start + size])
            done, failed = self.deliver_automation(index_id, automation, batch, dagster_run_id, damaged)
            snapshots += batch.snapshots
            deliveries += done
            problems |= {**batch.problems, **failed}
        found = Reconciliation(
            prompt_runs=len(runs),
            missing=tuple(run_id for run_id in stale if run_id not in state.runs),
            changed=tuple(run_id for run_id in stale if run_id in state.runs),
            damaged=tuple(run_id for run_id in todo if run_id in untidy),
            delivered=tuple(run.run_id for delivery in deliveries for run in delivery.prompt_runs),
            problems={run_id: str(error) for run_id, error in problems.items()},
            verified=len(verified),
        )
        return found, snapshots, deliveries

    def automation_batch(self, index_id: str, automation: str, run_ids: Sequence[str]) -> Batch:
        """The snapshots for a delivery of an automation. Where they cannot be had, that is remembered."""
        self.check_enabled(index_id, automation)
        try:
            return self.snapshot_batch(index_id, run_ids)
        except Exception as error:
            self.following.failed(index_id, automation, error, self.clock())
            raise

    def deliver_automation(
        self,
        index_id: str,
        automation: str,
        batch: Batch,
        dagster_run_id: str | None,
        damaged: frozenset[str] = frozenset(),
    ) -> tuple[list[Delivery], dict[str, Exception]]:
        """Deliver what could be read of a batch, in one commit. Returns why runs are not among it, by run id.

        Where the fault may be one run's, each is delivered by itself, so that it does not stand in the others' way.
        Raises what is no fault of a single run. The outcome is remembered either way.
        """
        try:
            request = self.automation_delivery(index_id, automation, batch.snapshots, dagster_run_id)
            self.collection(index_id, automation)  # a log that cannot be read is no fault of a run
            deliveries, problems = deliver_isolated(
                replace(request, damaged=damaged), lambda one: self.deliver(one, self.collection(index_id, automation))
            )
        except Exception as error:
            self.following.failed(index_id, automation, error, self.clock())
            raise
        delivered = [run.run_id for delivery in deliveries for run in delivery.prompt_runs]
        self.following.succeeded(index_id, automation, delivered, {**batch.problems, **problems}, self.clock())
        return deliveries, problems

    def deliver(self, request: DeliveryRequest, state: LogState | None = None) -> Delivery:
        """Carry out a delivery. ``state`` is what the destination's log said a moment ago.

        A storage that was restored may be behind the destination, or lack files: then the runs are read again, and
        delivered as they are.
        """
        self._check_storage()
        delivery = self._deliver(request, state)
        try:
            self.storage.sweep()  # the connector is swept by the delivery; snapshots and downloads can be killed too
        except VVExportsError as error:  # what is delivered is delivered
            _LOG.warning("what was left over in the pipeline's storage stays: %s", error)
        return delivery

    def _deliver(self, request: DeliveryRequest, state: LogState | None) -> Delivery:
        read_again: set[str] = set()
        while True:
            try:
                return deliver(request, self.store, self.clock, self.progress.file, state)
            except StorageSetBackError as error:
                problem: VVExportsError = error
                above = error.revisions
            except SnapshotDamagedError as error:
                problem = error
                above = {one.run_id: one.revision for one in request.snapshots if one.has_file(error.key)}
            if not above or not read_again.isdisjoint(above):
                raise problem
            _LOG.warning("prompt runs are read again (%s), since: %s", ", ".join(map(one_line, above)), problem)
            read_again.update(above)
            snapshots = [
                self._read_again(one, above[one.run_id]) if one.run_id in above else one for one in request.snapshots
            ]
            request = replace(request, snapshots=snapshots)

    def _read_again(self, snapshot: Snapshot, above: int) -> Snapshot:
        """Read a run, and keep it as a revision that is greater than ``above``."""
        run = self.source.prompt_run(snapshot.index_id, snapshot.run_id)
        taken = self.store.take(self.source, run, self.clock(), above)
        fingerprint = self.store.fingerprint(taken)
        if fingerprint is not None:
            self.catalogs.record(snapshot.index_id, [(taken, fingerprint)])
        self.progress.snapshot(taken.run_id, taken.rows("segments"))
        return taken

    def automations(self) -> list[tuple[str, str, AutomationConfig]]:
        """(index id, name, configuration) of every automation."""
        return [
            (index_id, name, automation)
            for index_id, index in self.config.indexes.items()
            for name, automation in index.automations.items()
        ]

    def _check_index(self, index_id: str) -> None:
        if index_id not in self.config.indexes:
            message = missing_message("index", [index_id], self.config.indexes, "the configuration")
            raise NotFoundError(f"{message} Add it under `indexes` to export it.")


def content_version(snapshots: Sequence[Snapshot]) -> str:
    """One data version for several runs: that of the run where there is one, else a hash of all."""
    if len(snapshots) == 1:
        return snapshots[0].data_version
    digest = hashlib.sha256()
    for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.run_id):
        digest.update(f"{snapshot.run_id}\n{snapshot.data_version}\n".encode())
    return digest.hexdigest()
