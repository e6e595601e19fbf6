"""The indexes that are followed, through the client."""

from collections.abc import Iterator, Mapping
from typing import Any

from vv_exports.client.changes import ConfigurationChange, change_configuration, changes_at
from vv_exports.client.deployment import Deployment
from vv_exports.errors import VVExportsError
from vv_exports.pipeline import Pipeline
from vv_exports.printable import one_line


class Indexes:
    """The indexes of the configuration."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def add(
        self,
        index_id: str,
        *,
        discovery_interval_seconds: int | None = None,
        run_tags: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> ConfigurationChange:
        """Have the configuration's file follow an index, or change fields of one that it follows. None leaves a field
        as it is. Raises ConfigurationError with every problem that this would make, and then writes nothing."""
        given = {"discovery_interval_seconds": discovery_interval_seconds, "run_tags": run_tags}
        fields = {name: value for name, value in given.items() if value is not None}

        def notes(before: Pipeline, after: Pipeline) -> Iterator[str]:
            if index_id not in before.config.indexes:
                yield from _at_the_source(after, index_id)
                yield f"nothing of index {one_line(index_id)} is delivered before it has an automation"

        changes = changes_at(("indexes", index_id), fields, given)
        return change_configuration(self._deployment, changes, notes, dry_run=dry_run)


def _at_the_source(pipeline: Pipeline, index_id: str) -> Iterator[str]:
    """Whether the source has an index that is about to be followed."""
    try:
        known = [one.index_id for one in pipeline.source.indexes()]
    except VVExportsError as error:
        yield f"whether the source has index {one_line(index_id)} is not known: {error}"
        return
    if index_id not in known:
        yield f"the source has no index {one_line(index_id)}; it has: {one_line(', '.join(known)) or 'none'}"
