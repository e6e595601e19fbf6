"""Export automations through the client: what their collections hold, and deliveries of what they lack."""

from collections.abc import Sequence
from dataclasses import dataclass

from vv_exports.client.deployment import Deployment
from vv_exports.defs.keys import asset_key
from vv_exports.defs.partitions import sync_partitions
from vv_exports.domain.names import partition_key
from vv_exports.domain.prompt_runs import PromptRun


@dataclass(frozen=True)
class AutomationState:
    """An automation and what its collection holds. Counts are of prompt runs: ``waiting`` are finished and not
    delivered, ``held`` wait until they are complete or somebody names them."""

    index_id: str
    automation: str
    enabled: bool
    paused: bool
    destination_connector_id: str
    destination_subpath: str
    destination_uri: str
    format: str
    delivered: int
    waiting: int
    held: int
    last_delivery_at: str | None


@dataclass(frozen=True)
class AutomationRun:
    """What one run of an automation did. ``delivered`` and ``already_delivered`` are prompt run ids; rows, files and
    bytes are of what was newly delivered."""

    index_id: str
    automation: str
    destination_uri: str
    delivered: tuple[str, ...]
    already_delivered: tuple[str, ...]
    rows: int
    files: int
    bytes: int
    dagster_run_ids: tuple[str, ...]


class Automations:
    """Export automations."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self) -> Sequence[AutomationState]:
        """All automations of the configuration."""
        pipeline = self._deployment.pipeline
        listed: dict[str, Sequence[PromptRun]] = {}
        states = []
        for index_id, name, _ in pipeline.automations():
            if index_id not in listed:
                listed[index_id] = pipeline.prompt_runs(index_id)
            states.append(self._state(index_id, name, listed[index_id]))
        return states

    def retrieve(self, index_id: str, automation: str) -> AutomationState:
        """One automation and what its collection holds. Raises NotFoundError."""
        pipeline = self._deployment.pipeline
        pipeline.config.automation(index_id, automation)  # before anything is read
        return self._state(index_id, automation, pipeline.prompt_runs(index_id))

    def _state(self, index_id: str, automation: str, runs: Sequence[PromptRun]) -> AutomationState:
        pipeline = self._deployment.pipeline
        config = pipeline.config.automation(index_id, automation)
        state = pipeline.collection(index_id, automation)
        eligible = pipeline.eligible(index_id, automation, runs)
        taken = {run.run_id for run in eligible} | set(state.runs)
        return AutomationState(
            index_id=index_id,
            automation=automation,
            enabled=config.enabled,
            paused=config.paused,
            destination_connector_id=config.destination_connector_id,
            destination_subpath=config.subpath,
            destination_uri=pipeline.connectors[config.destination_connector_id].uri(config.subpath),
            format=config.format,
            delivered=len(state.runs),
            waiting=sum(not pipeline.up_to_date(run, config, state) for run in eligible),
            held=sum(run.deliverable and run.status in config.on_status and run.run_id not in taken for run in runs),
            last_delivery_at=state.entries[-1].committed_at if state.entries else None,
        )

    def run(self, index_id: str, automation: str, run_ids: Sequence[str] | None = None) -> AutomationRun:
        """Deliver now what the collection lacks: of all finished runs, or of those named, held ones included.

        A paused automation runs, since this is asked for; a disabled one raises SelectionError.
        """
        pipeline = self._deployment.pipeline
        config = pipeline.config.automation(index_id, automation)
        pipeline.check_enabled(index_id, automation)
        existing = pipeline.prompt_runs(index_id)
        runs = pipeline.eligible(index_id, automation, existing, run_ids)
        before = pipeline.collection(index_id, automation)
        unfinished = pipeline.unfinished(index_id, automation, runs, before)
        instance, key = self._deployment.instance, asset_key(index_id, "exports", automation)
        sync_partitions(instance, index_id, existing)
        materialized = instance.get_materialized_partitions(key)
        wanted = [
            run.run_id
            for run in runs
            if not pipeline.up_to_date(run, config, before)
            or run.run_id in unfinished
            or partition_key(run.run_id) not in materialized
        ]
        launched = self._deployment.launch_stretches(index_id, wanted, [asset_key(index_id, "prompt_runs"), key])
        # Somebody else may have delivered meanwhile: what was launched here is told by the log.
        entries = [
            entry
            for entry in pipeline.collection(index_id, automation).entries[len(before.entries) :]
            if entry.provenance.dagster_run_id in launched
        ]
        mine = {run.run_id for run in runs}
        delivered = dict.fromkeys(run.run_id for entry in entries for run in entry.prompt_runs if run.run_id in mine)
        files = [file for entry in entries for file in entry.files if file.prompt_run_id in mine]
        return AutomationRun(
            index_id=index_id,
            automation=automation,
            destination_uri=pipeline.connectors[config.destination_connector_id].uri(config.subpath),
            delivered=tuple(delivered),
            already_delivered=tuple(run.run_id for run in runs if run.run_id not in delivered),
            rows=sum(file.rows for file in files),
            files=len(files),
            bytes=sum(file.bytes for file in files),
            dagster_run_ids=tuple(launched),
        )
