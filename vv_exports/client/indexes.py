"""The indexes that are followed, through the client."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vv_exports.client.changes import ConfigurationChange, change_configuration, changes_at, check_described
from vv_exports.client.deployment import Deployment
from vv_exports.errors import RequestError, VVExportsError
from vv_exports.index_list import ListedIndex
from vv_exports.pipeline import Pipeline
from vv_exports.printable import one_line


@dataclass(frozen=True)
class FollowedIndex:
    """An index that is followed. ``template`` is None for one that the configuration describes itself; ``name`` and
    ``gone_since`` are of the list that ``sync`` keeps: None where that does not have it, or the source has it."""

    index_id: str
    name: str | None
    template: str | None
    automations: tuple[str, ...]
    gone_since: str | None


@dataclass(frozen=True)
class IndexSync:
    """What asking the source has brought, of the indexes that templates follow: ``new`` and ``back`` are those that it
    has and had not when it was asked last, ``gone`` those that it has no more, which are followed on."""

    followed: int
    new: tuple[str, ...]
    back: tuple[str, ...]
    gone: tuple[str, ...]
    dry_run: bool


class Indexes:
    """The indexes of the configuration."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self) -> Sequence[FollowedIndex]:
        """Those that are followed, in the configuration's order: those that it describes, then those of templates."""
        pipeline = self._deployment.pipeline
        config, known = pipeline.config, pipeline.index_list.read().indexes
        return [
            FollowedIndex(
                index_id=index_id,
                name=known[index_id].name if index_id in known else None,
                template=index.template,
                automations=tuple(index.automations),
                gone_since=_gone_since(known.get(index_id)),
            )
            for index_id, index in config.indexes.items()
        ]

    def sync(self, *, dry_run: bool = False) -> IndexSync:
        """Ask the source which indexes it has, and keep that: the client goes on with those that templates match.

        Raises RequestError where the configuration has no templates, ConfigurationError where it does not hold with
        what the source has, and what the source raises; then nothing is kept.
        """
        deployment = self._deployment
        deployment.refresh()
        pipeline = deployment.pipeline
        if not pipeline.config.index_templates:
            raise RequestError(
                "the configuration has no `index_templates`, so all indexes that are followed are those under "
                "`indexes`; `vv-exports indexes add` adds one"
            )
        found = pipeline.source.indexes()
        synced = pipeline.index_list.sync(pipeline.config, found, pipeline.now(), dry_run=dry_run)
        if not dry_run and synced.config != pipeline.config:
            deployment.take_over(synced.config)
        return IndexSync(len(synced.followed), synced.new, synced.back, tuple(synced.gone), dry_run)

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
        check_described(self._deployment, index_id)
        given = {"discovery_interval_seconds": discovery_interval_seconds, "run_tags": run_tags}
        fields = {name: value for name, value in given.items() if value is not None}

        def notes(before: Pipeline, after: Pipeline) -> Iterator[str]:
            if index_id not in before.config.indexes:
                yield from _at_the_source(after, index_id)
                yield f"nothing of index {one_line(index_id)} is delivered before it has an automation"

        changes = changes_at(("indexes", index_id), fields, given)
        return change_configuration(self._deployment, changes, notes, dry_run=dry_run)


def _gone_since(listed: ListedIndex | None) -> str | None:
    gone_at = None if listed is None else listed.gone_at
    return None if gone_at is None else gone_at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _at_the_source(pipeline: Pipeline, index_id: str) -> Iterator[str]:
    """Whether the source has an index that is about to be followed."""
    try:
        known = [one.index_id for one in pipeline.source.indexes()]
    except VVExportsError as error:
        yield f"whether the source has index {one_line(index_id)} is not known: {error}"
        return
    if index_id not in known:
        yield f"the source has no index {one_line(index_id)}; it has: {one_line(', '.join(known)) or 'none'}"
