"""What an error of ours means to Dagster: is its step tried again, is its run?

Operations have no RetryPolicy: Dagster would apply it to a wrong request, to a bug and to an interrupt alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from vv_exports.defs.dagster_internals import step_of
from vv_exports.defs.instance import instance_errors
from vv_exports.defs.launches import launched_here, note_worker
from vv_exports.defs.run_tags import shown
from vv_exports.errors import OutcomeUnknownError, TransientError, VVExportsError

RETRIES = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""Waits of 10, 30 and 70 s, each up to 10 s shorter or longer. What a second mends, the source and the connectors have
tried again themselves; this is for a server's restart, or a limit by the minute. Jitter, since an outage fails many
runs at the same moment, which should not come back at the same moment; not FULL, which may hardly wait three times."""

PARTLY_FAILED = shown({"partly_failed": "true"})
"""Tags of a run that failed for some prompt runs alone. These are tried again by themselves, and nothing waits."""

_STAYS_FAILED = {"dagster/retry_on_asset_or_op_failure": "false"}
"""Unlike ``dagster/max_retries: 0`` it leaves the retry of a crashed worker: launching a run again copies its tags."""


@contextmanager
def step_failures(context: dg.AssetExecutionContext | dg.OutputContext) -> Iterator[None]:
    """Around what a step does: errors of ours leave it as dg.RetryRequested or dg.Failure, caused by the error.

    What may work later is tried again, in steps that nobody waits for. Every other error of ours marks the run too:
    Failure(allow_retries=False) says nothing to the daemon that retries runs. What is not ours passes unchanged,
    interrupts included.
    """
    instance = step_of(context).instance
    try:
        with instance_errors(lambda: instance):
            if isinstance(context, dg.AssetExecutionContext):
                note_worker(instance, context.run)
            yield
    # OutcomeUnknownError too: a delivery begins with reading the log, as that error demands, and writes its entry only
    # if there is none of that number. A write that landed is found; one that lands late loses, or is seen to be this
    # very delivery, or is a conflict, which is tried again. Claims and snapshots are written in the same way.
    except (TransientError, OutcomeUnknownError) as error:
        step = step_of(context)
        failed_before = step.previous_attempt_count
        if failed_before < RETRIES.max_retries and not launched_here(step.dagster_run):
            raise dg.RetryRequested(RETRIES.max_retries, RETRIES.calculate_delay(failed_before + 1)) from error
        raise dg.Failure(str(error), allow_retries=False) from error
    except VVExportsError as error:
        step = step_of(context)
        step.instance.add_run_tags(step.run_id, _STAYS_FAILED)
        raise dg.Failure(str(error), allow_retries=False) from error
