"""The limits on runs that this package relies on, and whether an instance has them.

They are in the ``dagster.yaml`` of every instance that the package makes (``vv_exports/defs/dagster.yaml``). In
somebody's own project they are in theirs, or nowhere: then it says so in the log.
"""

import logging
from collections.abc import Sequence

import dagster as dg

from vv_exports.defs.run_queue import RunQueue
from vv_exports.defs.run_tags import shown

_LOG = logging.getLogger(__name__)
(_CONNECTOR,) = shown({"connector": ""})
_TWO_WRITERS = "of two runs that deliver to one place one works for nothing"
_looked_at: set[tuple[str, ...]] = set()


def missing_limits(instance: dg.DagsterInstance, destination_pools: Sequence[str]) -> list[str]:
    """What is not limited in an instance that should be, with what comes of it and the setting that mends it."""
    config = instance.get_concurrency_config()
    queue, default = config.run_queue_config, config.pool_config.default_pool_limit
    if queue is None:
        return ["its run_coordinator is none that queues runs, so nothing is limited: remove `run_coordinator`"]
    by_pool = {one.name: one.limit for one in instance.event_log_storage.get_pool_limits()}
    missing = [
        f"pool {pool} has no limit of 1, and {_TWO_WRITERS} (`dagster instance concurrency set {pool} 1`)"
        for pool in destination_pools
        if by_pool.get(pool, default) != 1
    ]
    if not isinstance(instance.run_coordinator, RunQueue):
        missing.append(
            "its run_coordinator is not vv_exports.defs.run_queue.RunQueue, so what is launched in the UI counts for "
            "no connector, and has no run_tags of the configuration"
        )
    if not any(one.get("key") == _CONNECTOR for one in queue.tag_concurrency_limits):
        missing.append(f"runs of a connector, tag {_CONNECTOR}, have no limit, and its account may refuse many writers")
    if not instance.run_monitoring_enabled:
        missing.append("run_monitoring is off, and a run whose machine crashed keeps its place in the queue")
    return missing


def warn_of_missing_limits(instance: dg.DagsterInstance, destination_pools: Sequence[str]) -> None:
    """Say it once in a process, for each index."""
    about = tuple(destination_pools)
    if not instance.is_persistent or about in _looked_at:
        return
    _looked_at.add(about)
    if missing := missing_limits(instance, destination_pools):
        _LOG.warning(
            "This Dagster instance lacks limits that vv_exports relies on; its docs/library.md has them for your "
            "dagster.yaml: %s.",
            "; ".join(missing),
        )
