"""Launches that only say what they would do: the plan is in the step's log, and a line of it among the run's tags.

Such a step yields no output, so nothing is materialized, and nothing is stored that looks like a delivery.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import msgspec

from vv_exports.defs.run_tags import shown
from vv_exports.delivery.planned import DeliveryPlan
from vv_exports.printable import one_line

DRY_RUN = "dry_run"

DRY_RUN_FIELD = {
    DRY_RUN: dg.Field(
        bool,
        default_value=False,
        is_required=False,
        description="Say what would be delivered, in the step's log, and do nothing: nothing is read or written.",
    )
}
"""Of every asset that delivers."""

REPAIR = "repair"
DAMAGED = "damaged"

REPAIR_FIELD = {
    REPAIR: dg.Field(
        bool,
        default_value=False,
        is_required=False,
        description=(
            "Read every file, and mend the collection: deliver again what is missing or altered, make its log and its "
            "owner file whole, and nothing else."
        ),
    ),
    DAMAGED: dg.Field(
        dg.Noneable([str]),
        default_value=None,
        is_required=False,
        description="Of a repair: paths of the files that were found to be damaged, so that none is read again.",
    ),
}
"""Of a reconciliation."""

_RUNS_IN_THE_LOG = 100


def is_dry_run(context: dg.AssetExecutionContext) -> bool:
    """Whether a launch asks for a plan alone."""
    return _is_said(context, DRY_RUN)


def is_repair(context: dg.AssetExecutionContext) -> bool:
    """Whether a launch asks to mend a collection."""
    return _is_said(context, REPAIR)


def damaged_files_of(context: dg.AssetExecutionContext) -> Sequence[str] | None:
    """The files that a launch knows to be damaged."""
    found: Sequence[str] | None = context.op_execution_context.op_config[DAMAGED]
    return found


def _is_said(context: dg.AssetExecutionContext, name: str) -> bool:
    config: Mapping[str, Any] = context.op_execution_context.op_config or {}
    return bool(config.get(name))


def show(context: dg.AssetExecutionContext, plans: Sequence[DeliveryPlan]) -> None:
    """Show plans in the run."""
    for plan in plans:
        said = "\n".join([plan.headline, *plan.lines, *_runs(plan)])
        (context.log.warning if plan.is_stopped else context.log.info)(said)
        context.log.info("The whole plan:\n%s", msgspec.json.format(msgspec.json.encode(plan.document)).decode())
    tags = shown({"dry_run": "true", "plan": "; ".join(plan.headline for plan in plans)})
    context.instance.add_run_tags(context.run.run_id, tags)


def _runs(plan: DeliveryPlan) -> list[str]:
    lines = [
        f"  {one_line(run.run_id)}: {run.why or 'chosen'}, "
        + (f"{run.rows} rows, {run.files} files" if run.is_read else f"about {run.rows} rows, to be read first")
        for run in plan.prompt_runs[:_RUNS_IN_THE_LOG]
    ]
    more = len(plan.prompt_runs) - len(lines)
    return [*lines, f"  … and {more} more"] if more else lines
