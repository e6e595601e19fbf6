"""Dagster's queue of runs, where every run that delivers has the tag of its connector before it waits.

The queue counts runs by their tags (``tag_concurrency_limits`` in ``dagster.yaml``). Sensors and backfills of this
package tag theirs; what is launched in the UI has no tags, so that its connector is looked up here: in the launch, or
in the definition of the asset.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from vv_exports.defs.dagster_internals import SubmitRunContext
from vv_exports.defs.keys import CONNECTOR, DOWNLOAD
from vv_exports.defs.run_tags import shown


class RunQueue(dg.QueuedRunCoordinator):
    """Named in ``dagster.yaml``, as ``run_coordinator``."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag a run, then let it wait for its turn."""
        run = context.dagster_run
        # A run that somebody launches again, elsewhere, comes with the tags of the first one.
        connector = chosen_connector(run.run_config) or run.tags.get(CONNECTOR) or _connector_of_assets(context)
        if connector != run.tags.get(CONNECTOR):
            self._instance.add_run_tags(run.run_id, shown({"connector": connector}))
        return super().submit_run(context)


def chosen_connector(run_config: Mapping[str, Any]) -> str | None:
    """The connector that a launch names; None where it names none, or wants a download."""
    for op in (run_config.get("ops") or {}).values():
        chosen = ((op or {}).get("config") or {}).get("destination_connector_id")
        if chosen not in (None, DOWNLOAD):
            return str(chosen)
    return None


def _connector_of_assets(context: SubmitRunContext) -> str | None:
    """Of the first asset that delivers to one. A run has a tag once, so that it counts for one connector."""
    graph = context.workspace.asset_graph
    for key in context.dagster_run.asset_selection or ():
        found = graph.get(key).metadata.get(CONNECTOR) if graph.has(key) else None
        if found is not None:
            return str(getattr(found, "value", found))
    return None
