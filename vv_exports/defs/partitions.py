"""Prompt runs as Dagster partitions: one definition for each index, one key for each finished run."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress

import dagster as dg

from vv_exports.automations.automation import Automation
from vv_exports.automations.selection import in_stretches
from vv_exports.defs.dagster_internals import partition_keys
from vv_exports.defs.keys import asset_key
from vv_exports.domain.names import dagster_key, partition_key, run_id_from_partition_key
from vv_exports.errors import RequestError
from vv_exports.sources.base import ListedRun


def partitions_of(index_id: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of an index."""
    return dg.DynamicPartitionsDefinition(name=partitions_name(index_id))


def partitions_name(index_id: str) -> str:
    """Name of an index's partitions definition in the instance."""
    return f"prompt_runs__{dagster_key(index_id)}"


def sync_partitions(instance: dg.DagsterInstance, index_id: str, runs: Iterable[ListedRun]) -> list[str]:
    """Add a partition for each finished run that has none, in the runs' order. Returns the new ones' run ids.

    Idempotent. Partitions of runs that are gone from the source stay: they say what was delivered.
    """
    return Partitions(instance, index_id).add(runs)


class Partitions:
    """The partitions of an index, as they were when this was made: each look at them reads all of them."""

    def __init__(self, instance: dg.DagsterInstance, index_id: str) -> None:
        self._instance = instance
        self._name = partitions_name(index_id)
        self._keys = frozenset(partition_keys(instance, self._name))

    def add(self, runs: Iterable[ListedRun]) -> list[str]:
        """Add one for each finished run that had none, in the runs' order. Returns the new ones' run ids."""
        new = [run.run_id for run in runs if run.deliverable and partition_key(run.run_id) not in self._keys]
        if new:
            self._instance.add_dynamic_partitions(self._name, [partition_key(run_id) for run_id in new])
        return new

    def run_ids(self, but: AbstractSet[str] = frozenset()) -> Iterator[str]:
        """The prompt runs that had one, but for those in ``but``. Partitions that somebody made up in the UI are left
        out."""
        # Nearly every key is the run's id: so nearly every run is told by comparing sets.
        for key in (self._keys - but).union(key for key in self._keys if "%" in key):
            with suppress(ValueError):
                run_id = run_id_from_partition_key(key)
                if run_id not in but:
                    yield run_id


def delivered_before(instance: dg.DagsterInstance | None, automation: Automation) -> set[str]:
    """The prompt runs that Dagster remembers as delivered by an automation, where that still delivers to the same
    place: a hint of what was there."""
    if instance is None or not automation.places.is_at(automation.destination):
        return set()
    keys = instance.get_materialized_partitions(asset_key(automation.index_id, "exports", automation.name))
    found = set()
    for key in keys:
        with suppress(ValueError):
            found.add(run_id_from_partition_key(key))
    return found


def known_run_ids(instance: dg.DagsterInstance | None, index_id: str) -> set[str]:
    """The prompt runs that have a partition: without an instance, none."""
    return set() if instance is None else set(Partitions(instance, index_id).run_ids())


def run_ids_of(keys: Iterable[str]) -> list[str]:
    """The prompt runs behind partition keys. Dagster hands keys over unordered.

    Raises RequestError for a key that names no run: the UI lets people add any text as a partition.
    """
    return sorted(map(_run_id_of, keys))


def _run_id_of(key: str) -> str:
    try:
        return run_id_from_partition_key(key)
    except ValueError as error:
        raise RequestError(
            f"partition {key!r} is not the name of a prompt run; delete it. Discovery adds the partitions of all "
            "finished prompt runs by itself."
        ) from error


def stretches(instance: dg.DagsterInstance, index_id: str, run_ids: Iterable[str], limit: int) -> list[tuple[str, str]]:
    """The partitions of these runs as ranges (first key, last key) that hold nothing else, ``limit`` keys at most each.

    A Dagster run covers a contiguous range in the order in which partitions were added.
    """
    order = instance.get_dynamic_partitions(partitions_name(index_id))
    found = in_stretches(order, {partition_key(run_id) for run_id in run_ids}, limit)
    return [(keys[0], keys[-1]) for keys in found]
