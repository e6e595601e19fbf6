"""The component that gives a Dagster project one index with its automations: ``type: vv_exports.IndexExports``.

Components of a project that use one configuration file are one deployment: they share its source, storage and
connectors, and are held together to the rules between automations, so that no two deliver to one place.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster.components.resolved.errors import ResolutionException

from vv_exports.config import (
    Config,
    IndexAttributes,
    did_you_mean,
    index_place,
    indexes_in,
    load_config,
    places_below,
)
from vv_exports.config.loading import ENVIRONMENT_VARIABLE, FILE_NAME
from vv_exports.defs.build import IndexDefinitions
from vv_exports.defs.keys import Names
from vv_exports.domain.names import dagster_name
from vv_exports.errors import ConfigurationError
from vv_exports.library.definitions import PREFIX
from vv_exports.library.scaffolding import IndexExportsScaffolder
from vv_exports.pipeline import Pipeline

_TAIL = r"(?:\.(?:[\w-]+|'[^']*'))*"
"""What may follow the place of an index in a problem's text: ``.automations.review-team.format``."""


@dg.scaffold_with(IndexExportsScaffolder)
class IndexExports(dg.Component, dg.Resolvable):
    """Exports of one VideoVector index: its prompt runs, its export automations, and exports on demand.

    Source, storage and connectors are in vv_exports.yaml, for all components of the project. Attributes are index_id,
    and what stands under the index in that file. An index that is there already needs its index_id here alone.
    """

    def __init__(self, index_id: str, *, config: str | Path | None = None, **of_the_index: Any) -> None:
        self.index_id = index_id
        self.config = config
        self.of_the_index: Mapping[str, Any] = of_the_index
        self.document: dg.ResolutionContext | None = None
        """The YAML that it is of, where it is of some."""
        self.kept: tuple[list[IndexExports], IndexDefinitions] | None = None
        """What it shares with the others of its file, where it is the first of them."""

    @classmethod
    def model(cls) -> Any:
        """The model of the attributes, for Dagster: of the fields of the configuration file."""
        return IndexAttributes

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: Any) -> "IndexExports":
        """The component of a ``defs.yaml``."""
        said = {name: _resolved(context.at_path(name), getattr(model, name)) for name in sorted(model.model_fields_set)}
        made = cls(said.pop("index_id"), **said)
        made.document = context
        return made

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What Dagster lists of this type."""
        return dg.ComponentTypeSpec(
            description="Exports of one VideoVector index: its prompt runs, its export automations, exports on demand.",
            tags=["videovector"],
            produces=["asset", "asset_check", "sensor", "schedule", "resource"],
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of the index. Raises ConfigurationError with the problems of all components of its file."""
        return self._of_its_deployment(context).of_index(self.index_id)

    def at(self, path: Sequence[int | str] = ()) -> str:
        """File and line of an attribute, or of the nearest one around it."""
        return "a component in Python" if self.document is None else _line(self.document, ["attributes", *path])

    def _of_its_deployment(self, context: dg.ComponentLoadContext) -> IndexDefinitions:
        """What all components of the file share, made once: Dagster refuses to merge resources that are not the same
        objects. The first of them keeps it."""
        file, prefix = _file(self.config, context.project_root)
        together = using(file, context.component_tree) or [self]
        if not any(one is self for one in together):
            how = "Dagster does not know the type of this component; annotate its function: `-> IndexExports`"
            raise ConfigurationError(self.at(), [how])
        first = together[0]
        if first.kept is None or [*map(id, first.kept[0])] != [*map(id, together)]:
            config = configuration(file, together)
            made = IndexDefinitions(
                Pipeline.from_config(config), Names.of(config, prefix), [one.index_id for one in together]
            )
            first.kept = (together, made)
        return first.kept[1]


def using(file: Path, tree: dg.ComponentTree) -> list[IndexExports]:
    """The components of a project that use a configuration file."""
    each, file = tree.get_all_components(IndexExports), file.resolve()
    named = {one.config for one in each}
    same = {name for name in named if _file(name, tree.project_root)[0].resolve() == file}
    return [one for one in each if one.config in same]


def _file(named: str | Path | None, project: Path) -> tuple[Path, str]:
    """The configuration file of a component, and what is before the names of its resources."""
    if named is not None:
        path = project / named
        return path, f"{dagster_name(os.path.relpath(path.with_suffix(''), project).replace(os.sep, '_'))}__"
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or project / FILE_NAME), PREFIX


def configuration(file: Path, together: Sequence[IndexExports]) -> Config:
    """The file's configuration with the indexes of these components."""
    if not file.exists():
        why = (
            f"is not there, and {together[0].at()} needs it: source, storage and connectors of all components are in "
            f"it. `vv-exports demo` makes one to try; or name another with `config:` or {ENVIRONMENT_VARIABLE}"
        )
        raise ConfigurationError(str(file), [why])
    in_the_file = indexes_in(file)
    problems: list[str] = []
    said: dict[str, IndexExports] = {}
    for one in together:
        of_index = f"{one.at(['index_id'])}: attributes.index_id: {one.index_id!r}"
        if one.index_id in said:
            problems.append(f"{of_index} is the index of {said[one.index_id].at()} too; keep one")
        elif one.index_id in in_the_file and one.of_the_index:
            problems.append(
                f"{of_index} is an index of {file} too, which says what is to be done with it; take it out there, or "
                f"leave out {', '.join(sorted(one.of_the_index))} here"
            )
        elif one.index_id not in in_the_file and not one.of_the_index:
            problems.append(
                f"{of_index} is no index of {file}, and the component gives it no automations; `automations: {{}}` "
                f"follows an index without one.{did_you_mean(one.index_id, in_the_file, 'There is')}"
            )
        said.setdefault(one.index_id, one)
    here = {index_id: one for index_id, one in said.items() if one.of_the_index and index_id not in in_the_file}
    try:
        config = load_config(file, further={index_id: dict(one.of_the_index) for index_id, one in here.items()})
    except ConfigurationError as error:
        problems += (_with_lines(problem, here) for problem in error.problems)
    if problems:
        raise ConfigurationError(f"{file} and the components that use it", problems)
    return config


def _with_lines(problem: str, components: Mapping[str, IndexExports]) -> str:
    """A problem with the file and line of each place of a component that it names."""
    for index_id, one in components.items():
        top = index_place(index_id)
        if top not in problem:
            continue
        known = places_below(top, one.of_the_index)

        def placed(found: re.Match[str], one: IndexExports = one, known: Mapping[str, Any] = known) -> str:
            place = next(place for place in _ever_shorter(found[0]) if place in known)
            return f"{one.at(known[place])}: attributes{found[0].removeprefix(found[1])}"

        problem = re.sub(rf"({re.escape(top)})(?![\w-]){_TAIL}", placed, problem)
    return problem


def _ever_shorter(place: str) -> Iterable[str]:
    while True:
        yield place
        place = place.rpartition(".")[0]


def _resolved(context: dg.ResolutionContext, value: Any) -> Any:
    """A value with its templates resolved. Dagster would read any text as Python's first: `'2026'` became a number."""
    if isinstance(value, dict):
        return {key: _resolved(context.at_path(key), each) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(context.at_path(number), each) for number, each in enumerate(value)]
    if not isinstance(value, str) or not ("{{" in value or "{%" in value):
        return value
    try:
        found: Any = context.resolve_value(value, as_type=object)
        # Else a variable that is not set would be the default: another folder than the one that is meant.
        why = f"{value} gives nothing; is the variable set? A default is said as in env('NAME', 'default')"
    except ResolutionException as error:
        found, why = None, str(error).strip()
    if found is None:
        raise ConfigurationError(_line(context, context.path), [f"{'.'.join(map(str, context.path))}: {why}"])
    return found


def _line(context: dg.ResolutionContext, path: Sequence[int | str]) -> str:
    """File and line of what is at a path of a YAML document, or of the nearest around it."""
    if context.source_position_tree is None:
        return "YAML"
    position, _ = context.source_position_tree.lookup_closest_and_path(path, None)
    return f"{position.filename}:{position.start.line}"
