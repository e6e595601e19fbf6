"""Dagster's queue of runs, where every run has the tags by which it is counted and routed before it waits.

The queue counts runs by the tag of their connector (``tag_concurrency_limits`` in ``dagster.yaml``), and launchers
choose workers by the tags that the configuration has (``run_tags``). Sensors, schedules and commands of this package
tag theirs; what is launched in the UI, through GraphQL or as a backfill has no tags, so that they are looked up here:
in the launch, or in the definition of the asset. A tag that a launch says itself stays.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from vv_exports.defs.dagster_internals import SubmitRunContext
from vv_exports.defs.keys import CONNECTOR, DOWNLOAD
from vv_exports.defs.run_tags import route_of, said, shown


class RunQueue(dg.QueuedRunCoordinator):
    """Named in ``dagster.yaml``, as ``run_coordinator``."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag a run, then let it wait for its turn."""
        run, graph = context.dagster_run, context.workspace.asset_graph
        assets = sorted(run.asset_selection or ())
        # Of several connectors the first: a run has a tag once, so that it counts for one.
        by_assets = next((one for key in assets if (one := said(graph, key, CONNECTOR)) is not None), None)
        # A run that somebody launches again, elsewhere, comes with the tags of the first one.
        connector = chosen_connector(run.run_config) or run.tags.get(CONNECTOR) or by_assets
        tags = {**route_of(graph, assets), **run.tags, **shown({"connector": connector})}
        if missing := {key: value for key, value in tags.items() if run.tags.get(key) != value}:
            self._instance.add_run_tags(run.run_id, missing)
        return super().submit_run(context)


def chosen_connector(run_config: Mapping[str, Any]) -> str | None:
    """The connector that a launch names; None where it names none, or wants a download."""
    for op in (run_config.get("ops") or {}).values():
        chosen = ((op or {}).get("config") or {}).get("destination_connector_id")
        if chosen not in (None, DOWNLOAD):
            return str(chosen)
    return None
