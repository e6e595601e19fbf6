"""Tags of Dagster runs: those that people filter by in the UI, three of ours at most, those that it does not show, and
those of the configuration, by which a launcher chooses workers.

A tag that begins with ``.dagster/`` is in the run's record and in no list. Earlier versions had no such tags: of a run
that they made, theirs are taken.
"""

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from vv_exports.defs.dagster_internals import BaseAssetGraph

_ROUTE = "vv_exports/run_tags"
_SHOWN = "vv_exports/"
_HIDDEN = ".dagster/vv_exports."


def shown(tags: Mapping[str, str | None]) -> dict[str, str]:
    """Tags for people, by the names that they have among ours. None is no tag."""
    return {_SHOWN + name: value for name, value in tags.items() if value is not None}


def hidden(tags: Mapping[str, str | None]) -> dict[str, str]:
    """Tags for the pipeline itself."""
    return {_HIDDEN + name: value for name, value in tags.items() if value is not None}


def hidden_tag(run: dg.DagsterRun, name: str) -> str | None:
    """What the pipeline has noted on a run, whichever version it was."""
    return run.tags.get(_HIDDEN + name, run.tags.get(_SHOWN + name))


def run_with_hidden_tags(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> dg.DagsterRun | None:
    """The last run that the pipeline noted all of these on, whichever version it was."""
    for prefix in (_HIDDEN, _SHOWN):
        filters = dg.RunsFilter(tags={prefix + name: value for name, value in tags.items()})
        records = instance.get_run_records(filters, limit=1)
        if records:
            return records[0].dagster_run
    return None


def with_route(run_tags: Mapping[str, str]) -> dict[str, dg.MetadataValue]:
    """What an asset says of itself where its runs have tags in the configuration."""
    return {_ROUTE: dg.MetadataValue.json(dict(run_tags))} if run_tags else {}


def route_of(graph: BaseAssetGraph[Any], assets: Collection[dg.AssetKey]) -> dict[str, str]:
    """The tags that the configuration has for runs of these assets. Where two of them have another value for one, that
    of the first by its key holds: a run is carried out in one place."""
    route: dict[str, str] = {}
    for key in sorted(assets):
        route = {**(said(graph, key, _ROUTE) or {}), **route}
    return route


def said(graph: BaseAssetGraph[Any], key: dg.AssetKey, name: str) -> Any:
    """What an asset says of itself in its metadata; None where it does not say it, or is not there."""
    found = graph.get(key).metadata.get(name) if graph.has(key) else None
    return getattr(found, "value", found)
