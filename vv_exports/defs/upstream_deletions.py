"""What a look at an index does about prompt runs that the source has no more, and how Dagster shows it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.defs.erased_history import ErasedHistory
from vv_exports.defs.keys import Names, asset_key
from vv_exports.defs.partitions import Partitions
from vv_exports.defs.pauses import pause_in_force
from vv_exports.domain.names import partition_key
from vv_exports.errors import first_few
from vv_exports.pipeline import Pipeline
from vv_exports.printable import counted, one_line
from vv_exports.sources.base import Listed, ListedRun
from vv_exports.upstream_deletions import NAMED, deletions_of, erase_deleted, erasing, mark_missing


@dataclass(frozen=True)
class ErasedUpstream:
    """What was erased since it is deleted upstream: ``said`` tells it, ``not_erased`` what else the source has
    no more, and what could not be reached."""

    run_ids: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    not_erased: tuple[str, ...] = ()
    events: list[dg.AssetObservation] = field(default_factory=list)


def mark_gone(
    pipeline: Pipeline, partitions: Partitions, index_id: str, listing: Listed[ListedRun]
) -> tuple[list[str], list[dg.AssetObservation]]:
    """Mark runs that are known and that the source has no more. Returns those that were not marked before, and what
    shows it at their partitions."""
    lost = mark_missing(pipeline, index_id, listing, partitions.run_ids(listing.run_ids))
    now = pipeline.now()
    return lost, [
        dg.AssetObservation(
            asset_key=asset_key(index_id, "prompt_runs"),
            partition=partition_key(run_id),
            metadata={"gone_from_source": True, "missed_at": dg.MetadataValue.timestamp(now)},
        )
        for run_id in lost
    ]


def show_gone(pipeline: Pipeline, instance: dg.DagsterInstance, index_id: str, listing: Listed[ListedRun]) -> None:
    """The same outside a sensor."""
    _, events = mark_gone(pipeline, Partitions(instance, index_id), index_id, listing)
    report(instance, events)


def report(instance: dg.DagsterInstance, events: Iterable[dg.AssetObservation]) -> None:
    """Show events at their assets."""
    for event in events:
        instance.report_runless_asset_event(event)


def at_work(pipeline: Pipeline, names: Names, instance: dg.DagsterInstance, index_id: str) -> list[Automation]:
    """The automations that erase what is deleted upstream, and are neither disabled nor paused."""
    return [
        one
        for one in erasing(pipeline.automations, index_id)
        if one.config.enabled
        and pause_in_force(one.config, one.record.state().pause, instance, names.delivery_sensor(index_id, one.name))
        is None
    ]


def erase_deleted_upstream(
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    index_id: str,
    listing: Listed[ListedRun],
    automations: Iterable[Automation],
) -> ErasedUpstream:
    """Erase what is deleted upstream from the collections of these automations, and from what is kept."""
    chosen = list(automations)
    held_by = {one.id: set(one.holdings().runs) for one in chosen}
    deletions = deletions_of(pipeline, index_id, listing, chosen)
    report = erase_deleted(pipeline, deletions, chosen, ErasedHistory(instance))
    if report is None:
        return ErasedUpstream(not_erased=tuple(deletions.lines))
    events = [
        dg.AssetObservation(
            asset_key=asset_key(index_id, "exports", one.name),
            partition=partition_key(run_id),
            metadata={"erased": report.reason, "erased_at": dg.MetadataValue.timestamp(pipeline.now())},
        )
        for one in chosen
        for run_id in deletions.due
        if run_id in held_by[one.id]
    ]
    few = ", ".join(first_few(list(map(one_line, deletions.due)), NAMED))
    said = f"{counted(len(deletions.due), 'prompt run')} erased, since {report.reason}: {few}"
    if report.kept:
        said += f"; kept in {', '.join(report.kept)}, which is not to be erased"
    left = (f"not reached: {one}" for one in report.unreached)
    return ErasedUpstream(deletions.due, (said,), (*deletions.lines, *left), events)
