"""The checks as Dagster's asset checks: on the asset that each is about, evaluated by the steps that learn of it.

They are not partitioned: Dagster 1.13 calls that a preview, and a batch of a hundred partitions would cost as many
events for each check. An evaluation says which prompt runs it speaks of.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

import dagster as dg

from vv_exports.checks.outcome import FRESHNESS, OF_A_COLLECTION, OF_PROMPT_RUNS, SHOWN, TABLES, CheckOutcome, Kind, utc
from vv_exports.config import AutomationConfig
from vv_exports.defs.dagster_internals import StepExecutionContext, last_evaluation, log_check
from vv_exports.defs.keys import asset_key


def checks_of_prompt_runs(index_id: str) -> Sequence[dg.AssetCheckSpec]:
    """Of the asset ``prompt_runs`` of an index."""
    return _specs(asset_key(index_id, "prompt_runs"), OF_PROMPT_RUNS.items())


def checks_of_automation(index_id: str, name: str, config: AutomationConfig) -> Sequence[dg.AssetCheckSpec]:
    """Of the asset of an automation's collection."""
    kinds = dict(OF_A_COLLECTION)
    if config.expect_every is not None:
        kinds["freshness"] = FRESHNESS._replace(
            description=f"Something was delivered within {config.expect_every}, as `expect_every` says."
        )
    if config.registered.names:
        kinds["tables"] = TABLES
    return _specs(asset_key(index_id, "exports", name), kinds.items())


def freshness_policy(config: AutomationConfig) -> dg.FreshnessPolicy | None:
    """What the Dagster daemon watches; None where the configuration expects nothing."""
    every = config.expected_within
    return None if every is None else dg.FreshnessPolicy.time_window(fail_window=every)


def evaluation(outcome: CheckOutcome) -> dg.AssetCheckEvaluation:
    """What Dagster keeps of an outcome."""
    named = list(islice(outcome.prompt_runs, SHOWN))
    more = len(outcome.prompt_runs) - len(named)
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(outcome.index_id, *outcome.path),
        check_name=outcome.check,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity[outcome.severity],
        description=outcome.description,
        blocking=OF_PROMPT_RUNS[outcome.check].blocking if outcome.check in OF_PROMPT_RUNS else False,
        metadata={
            **outcome.figures,
            **({} if outcome.at is None else {"as_of": utc(outcome.at)}),
            **({"speaks_of": ", ".join(named) + (f" and {more} more" if more > 0 else "")} if named else {}),
            **({"found": _table(outcome)} if outcome.rows else {}),
        },
    )


def log_checks(step: StepExecutionContext, outcomes: Iterable[CheckOutcome]) -> None:
    """Say in a step, at once, what checks came to. A check that has seen nothing yet has not passed: it stays
    unevaluated, unless Dagster has a failure of it that is no longer so."""
    for outcome in outcomes:
        if outcome.at is not None or _last(step.instance, outcome) is False:
            log_check(step, evaluation(outcome))


def news_of(instance: dg.DagsterInstance, outcome: CheckOutcome) -> list[dg.AssetCheckEvaluation]:
    """The evaluation of an outcome that is another one than Dagster has, for who looks every few seconds."""
    last = _last(instance, outcome)
    is_old = last == outcome.passed or (outcome.at is None and last is None)
    return [] if is_old else [evaluation(outcome)]


def _last(instance: dg.DagsterInstance, outcome: CheckOutcome) -> bool | None:
    return last_evaluation(instance, dg.AssetCheckKey(asset_key(outcome.index_id, *outcome.path), outcome.check))


def _specs(asset: dg.AssetKey, kinds: Iterable[tuple[str, Kind]]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=kind.description, blocking=kind.blocking)
        for name, kind in kinds
    ]


def _table(outcome: CheckOutcome) -> dg.TableMetadataValue:
    """The rows as Dagster shows them: a table has no empty cells."""
    names = list(dict.fromkeys(name for row in outcome.rows for name in row))
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({name: "" if (value := row.get(name)) is None else value for name in names})
            for row in outcome.rows
        ],
        schema=dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name, "int" if all(isinstance(row.get(name), int | None) for row in outcome.rows) else "string"
                )
                for name in names
            ]
        ),
    )
