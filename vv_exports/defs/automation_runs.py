"""Dagster runs that sensors ask for: their tags, and whether there is one under way or one just failed.

A sensor keeps no list of what it asked for. While one of its runs is under way it waits, and afterwards it looks at
what is still to be done.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import takewhile

import dagster as dg

from vv_exports.defs.failures import PARTLY_FAILED
from vv_exports.defs.launches import error_of
from vv_exports.defs.lost_runs import SENSORS, never_started
from vv_exports.defs.processes import this_machine
from vv_exports.defs.run_tags import hidden, shown
from vv_exports.domain.failures import wait_for_a_whole_one

_LOOKED_AT = 12
_OVER = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_NO_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}


def snapshot_tags(index_id: str) -> dict[str, str]:
    """Of runs that take snapshots of an index's runs."""
    return shown({"snapshots_of": index_id})


def delivery_tags(index_id: str, automation: str, connector_id: str) -> dict[str, str]:
    """Of runs that deliver what an automation owes."""
    return shown({"automation": f"{index_id}/{automation}", "connector": connector_id})


def requests_of(asset: dg.AssetKey, ranges: list[tuple[str, str]], tags: Mapping[str, str]) -> list[dg.RunRequest]:
    """One run for each range of partitions."""
    return [
        dg.RunRequest(
            asset_selection=[asset],
            tags={
                **tags,
                **_NO_RETRY,
                **hidden({SENSORS: this_machine()}),
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
        )
        for first, last in ranges
    ]


def reason_to_wait(instance: dg.DagsterInstance, tags: Mapping[str, str], now: datetime) -> str | None:
    """Why no run should be asked for now: one is under way, or the last ones failed a moment ago."""
    records = instance.get_run_records(dg.RunsFilter(tags=dict(tags)), limit=_LOOKED_AT)
    under_way = [record for record in records if record.dagster_run.status not in _OVER]
    if under_way:
        run = under_way[-1].dagster_run
        return f"Dagster run {run.run_id} is under way ({run.status.value})."
    failed = list(takewhile(lambda record: _failed_as_a_whole(record.dagster_run), records))
    # One that never started says nothing against the next; if that comes to nothing too, something is wrong.
    if failed and not (len(failed) == 1 and never_started(failed[0].dagster_run)):
        last = failed[0]
        ended = datetime.fromtimestamp(last.end_time or last.update_timestamp.timestamp(), UTC)
        again = ended + wait_for_a_whole_one(len(failed))
        if now < again:
            error = error_of(instance, last.dagster_run.run_id) or last.dagster_run.status.value
            return f"{len(failed)} failed in a row; the next attempt is at {again:%Y-%m-%d %H:%M:%S} UTC. {error}"
    return None


def _failed_as_a_whole(run: dg.DagsterRun) -> bool:
    return run.status != dg.DagsterRunStatus.SUCCESS and not PARTLY_FAILED.keys() <= run.tags.keys()
