"""A deployment opened for work: its pipeline, its Dagster instance, and launches in it. It knows no request."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, wraps
from inspect import isfunction
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from vv_exports.config import Config
from vv_exports.defs.assets import PARTITIONS_PER_RUN
from vv_exports.defs.build import build_definitions
from vv_exports.defs.failures import PARTLY_FAILED
from vv_exports.defs.instance import find_instance, instance_errors, open_instance
from vv_exports.defs.keys import Names
from vv_exports.defs.launches import error_of, launch
from vv_exports.defs.lost_runs import close_lost
from vv_exports.defs.partitions import stretches
from vv_exports.domain.progress import Progress, Work
from vv_exports.errors import RunFailedError, UnreadableRunsError
from vv_exports.index_list import followed
from vv_exports.library.project import load_with_components
from vv_exports.pipeline import Pipeline

_Part = TypeVar("_Part", bound=type)


def tells_of_the_instance(part: _Part) -> _Part:
    """Of a part of the client: its public methods raise InstanceError where Dagster's database or its disk refuse."""
    for name, method in list(vars(part).items()):
        if isfunction(method) and not name.startswith("_"):
            setattr(part, name, _telling(method))
    return part


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def told(self: Any, *args: Any, **arguments: Any) -> Any:
        deployment: Deployment = self._deployment
        with instance_errors(lambda: deployment.opened_instance):
            return method(self, *args, **arguments)

    return told


@contextmanager
def naming_unreadable(what: str, others: int, problems: Mapping[str, Exception]) -> Iterator[None]:
    """Around work on the ``others`` of an index's runs: at its end, raise for those whose record cannot be read."""
    unreadable = UnreadableRunsError(what, others, problems) if problems else None
    try:
        yield
    except RunFailedError as error:
        if unreadable is None:
            raise
        listed = "\n".join(str(unreadable).splitlines()[1:])
        raise RunFailedError(
            f"{error}\nNor could these be {what}, since their record cannot be read:\n{listed}"
        ) from error
    if unreadable is not None:
        raise unreadable


class Deployment:
    """What every part of the client works with. Nothing is opened before it is needed."""

    def __init__(
        self,
        config: Config | Path | None = None,
        *,
        instance: dg.DagsterInstance | None = None,
        progress: Progress | None = None,
    ) -> None:
        loaded = config if isinstance(config, Config) else load_with_components(config)
        self.pipeline = Pipeline.from_config(loaded, progress)
        self._progress = progress or Progress()
        self.folder = loaded.folder or Path.cwd()
        self._given_instance = instance
        self._seen_instance: dg.DagsterInstance | None = None

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance, opened when first needed, and made where there is none yet."""
        return self._looked_after(self._given_instance or open_instance(os.environ, self.folder))

    @property
    def instance_if_made(self) -> dg.DagsterInstance | None:
        """The Dagster instance for what only reads: None where nothing was launched yet."""
        if self.opened_instance is None:
            found = self._given_instance or find_instance(os.environ, self.folder)
            if found is None:
                return None
            vars(self)["instance"] = self._looked_after(found)
        return self.opened_instance

    def _looked_after(self, instance: dg.DagsterInstance) -> dg.DagsterInstance:
        with instance_errors(lambda: instance):
            close_lost(instance, self.pipeline.clock(), self.pipeline.config.indexes)
        return instance

    @property
    def opened_instance(self) -> dg.DagsterInstance | None:
        """The Dagster instance, if it was needed yet."""
        return vars(self).get("instance")

    @property
    def instance_to_look_at(self) -> dg.DagsterInstance | None:
        """The Dagster instance for a dry run: None where it would be made. Unlike ``instance_if_made`` it is not looked
        after, which closes the runs of processes that died."""
        if self.opened_instance is None and self._given_instance is None and self._seen_instance is None:
            self._seen_instance = find_instance(os.environ, self.folder)
        return self.opened_instance or self._given_instance or self._seen_instance

    def close(self) -> None:
        """Give up readings of the source that are under way, and close its connections; they open again when needed."""
        self.pipeline.source.close()

    def refresh(self) -> None:
        """Go on with what the configuration's file says by now. Raises ConfigurationError."""
        file = self.pipeline.config.file
        if file is not None and (loaded := load_with_components(file)) != self.pipeline.config:
            self.take_over(loaded)

    @property
    def work(self) -> Work:
        """Who is told how much of long work is done."""
        return self._progress.work

    def take_over(self, config: Config) -> None:
        """Go on with another configuration of the same file."""
        # Components and templates have further indexes.
        of_a_project = config.dagster_project is not None
        config = load_with_components(config.file) if of_a_project else followed(config)
        self.close()
        self.pipeline = Pipeline.from_config(config, self._progress)
        for derived in ("names", "definitions"):
            vars(self).pop(derived, None)

    @cached_property
    def names(self) -> Names:
        """What operations and sensors are called in Dagster."""
        return Names.of(self.pipeline.config)

    @cached_property
    def definitions(self) -> dg.Definitions:
        """The same definitions as the code location's."""
        return build_definitions(self.pipeline)

    def launch_stretches(
        self, index_id: str, groups: Iterable[Sequence[str]], asset: dg.AssetKey, limit: int = PARTITIONS_PER_RUN
    ) -> list[str]:
        """Materialize partitions of an asset, ``limit`` at most to a Dagster run. Returns the runs' ids. Each group of
        prompt runs is asked for when those before it are done: what became of them may decide it.

        A prompt run that fails does not keep the others from being tried. Raises RunFailedError at the end, or at once
        where going on is of no use.
        """
        launched: list[str] = []
        problems: list[str] = []
        for first, last in chain.from_iterable(stretches(self.instance, index_id, one, limit) for one in groups):
            run = launch(self.instance, self.definitions, [asset], partitions=(first, last))
            launched.append(run.run_id)
            if run.status != dg.DagsterRunStatus.SUCCESS:
                message = error_of(self.instance, run.run_id) or f"it is {run.status.value}"
                problems.append(f"{message} (Dagster run {run.run_id})")
                if not PARTLY_FAILED.keys() <= run.tags.keys():
                    break
        self.pipeline.snapshots.sweep()  # also where nothing is to be done, since a process died after its delivery
        if problems:
            raise RunFailedError("\n".join(problems))
        return launched
