"""A page about a collection, in one file that loads nothing: what the UI shows, to mail."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Protocol

import jinja2

from vv_exports.delivery.overview import CollectedRun
from vv_exports.domain.tables import DELIVERED_TABLES
from vv_exports.pictures.deliveries import deliveries_picture
from vv_exports.pictures.drawing import data_uri

_MOST_RUNS = 500


class Check(Protocol):
    """How a check stands."""

    @property
    def check(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def description(self) -> str: ...


def report_page(
    title: str,
    facts: Mapping[str, Any],
    runs: Sequence[CollectedRun],
    checks: Sequence[Check],
    *,
    coverages: Mapping[str, str],
    now: datetime,
) -> str:
    """The page as HTML. ``coverages`` are SVG documents by what they are of."""
    return _template().render(
        title=title,
        facts=facts,
        made_at=f"{now:%Y-%m-%d %H:%M}",
        checks=checks,
        deliveries=data_uri(deliveries_picture(runs, now)) if runs else None,
        runs=[run_fields(run) for run in runs[:_MOST_RUNS]],
        numbers=OF_RUNS_NUMBERS,
        more=f"{len(runs) - _MOST_RUNS:,}" if len(runs) > _MOST_RUNS else "",
        coverages={name: data_uri(document) for name, document in coverages.items()},
    )


OF_RUNS_NUMBERS = ("entry", "revision", *DELIVERED_TABLES)
"""The fields of a run that are numbers."""


def run_fields(run: CollectedRun) -> dict[str, str | int]:
    """A run as a row of a table."""
    return {
        "prompt_run": run.run_id,
        "prompt": run.prompt_id,
        "status": run.status,
        "delivered_at": f"{run.delivered_at:%Y-%m-%d %H:%M:%S}",
        "entry": run.entry,
        "revision": run.revision,
        **{table: run.rows.get(table, 0) for table in DELIVERED_TABLES},
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vv_exports.pictures", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.j2")
