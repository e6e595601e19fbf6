"""The sensor that asks the source which indexes it has, where templates of the configuration follow some of them."""

from collections.abc import Iterable

import dagster as dg

from vv_exports.defs.keys import Names
from vv_exports.errors import first_few
from vv_exports.pipeline import Pipeline
from vv_exports.printable import counted, one_line

INTERVAL_SECONDS = 300
_NAMED = 5


def index_list_sensors(pipeline: Pipeline, names: Names) -> list[dg.SensorDefinition]:
    """One, where there are templates."""
    if not pipeline.config.index_templates:
        return []

    @dg.sensor(
        name=names.index_list,
        description=(
            "Asks the source which indexes it has, for `index_templates` of the configuration. A new one that matches "
            "is followed once this code location is loaded again; one that the source has no more keeps its "
            "automations. Off, nothing is lost."
        ),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=INTERVAL_SECONDS,
    )
    def index_list(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        synced = pipeline.index_list.sync(pipeline.config, pipeline.source.indexes(), pipeline.now())
        said = [f"{counted(len(synced.followed), 'index', 'indexes')} matched by templates."]
        if waiting := [index_id for index_id in synced.followed if index_id not in pipeline.config.indexes]:
            said.append(
                f"{len(waiting)} of them not followed yet: {_few(waiting)}; `vv-exports reload`, or *Reload* of the "
                "code location, has them followed."
            )
        if synced.gone:
            said.append(
                f"{len(synced.gone)} of them gone from the source: {_few(synced.gone)}; they keep their automations "
                "until `exclude` of their template names them."
            )
        for one in said[1:]:
            context.log.warning("%s", one)
        return dg.SkipReason(" ".join(said))

    return [index_list]


def _few(index_ids: Iterable[str]) -> str:
    return ", ".join(first_few(list(map(one_line, index_ids)), _NAMED))
