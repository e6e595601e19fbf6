"""Everything Dagster and nothing else.

Two parameters that this package cannot do without are marked beta in Dagster 1.13 and say so at every use.
"""

import warnings

import dagster as dg


def ignore_beta_warnings() -> None:
    """Let them be quiet. Dagster forgets it where it loads components, so each step says it again."""
    warnings.filterwarnings("ignore", message="Parameter `(backfill_policy|data_version)`", category=dg.BetaWarning)


ignore_beta_warnings()
