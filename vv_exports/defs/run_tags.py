"""Tags of Dagster runs: those that people filter by in the UI, three of ours at most, and those that it does not show.

A tag that begins with ``.dagster/`` is in the run's record and in no list. Earlier versions had no such tags: of a run
that they made, theirs are taken.
"""

from collections.abc import Mapping

import dagster as dg

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
