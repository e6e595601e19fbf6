"""Changes to the configuration through the client: written to its file, and taken over by the client that made them."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vv_exports.automations.automation import Automation
from vv_exports.automations.places import Place
from vv_exports.client.deployment import Deployment
from vv_exports.config import REMOVED, Change, edit_file, key_problems
from vv_exports.config.messages import did_you_mean, dotted
from vv_exports.delivery.ownership import owner_by_either
from vv_exports.errors import ConfigurationError, RequestError, VVExportsError
from vv_exports.index_list import followed
from vv_exports.pipeline import Pipeline
from vv_exports.printable import counted, one_line

TAKEN_OVER = (
    "a Dagster that runs takes it over after `vv-exports reload`, or *Reload* of the code location in its UI; commands "
    "do at once"
)


@dataclass(frozen=True)
class ConfigurationChange:
    """What became of the configuration's file, or in a dry run would. ``diff`` are the lines that change, ``notes``
    what follows from them."""

    file: str
    changed: bool
    dry_run: bool
    diff: str
    notes: Sequence[str]


def change_configuration(
    deployment: Deployment,
    changes: Iterable[Change],
    notes: Callable[[Pipeline, Pipeline], Iterator[str]],
    *,
    dry_run: bool,
) -> ConfigurationChange:
    """Make changes to the file that the deployment's configuration is of; the deployment goes on with the new one.
    ``notes`` says what follows, of the pipeline before and of the one that there will be.

    Raises ConfigurationError with every problem that the new configuration would have, and where the file is another
    by now; then nothing is written.
    """
    if deployment.pipeline.config.file is None:
        problem = (
            "there is no file to change, since this is the packaged demo, or was loaded from no file; `vv-exports "
            "init` writes one here"
        )
        raise ConfigurationError("the configuration", [problem])
    deployment.refresh()
    before = deployment.pipeline
    edit = edit_file(deployment.pipeline.config.file, changes)
    config = followed(edit.config)
    after = Pipeline.from_config(config)
    try:
        said = [*key_problems(config, os.environ), *notes(before, after)] if edit.is_change else []
    finally:
        after.source.close()
    if edit.is_change and not dry_run:
        edit.write()
        deployment.take_over(config)
        said.append(TAKEN_OVER)
    return ConfigurationChange(str(edit.file), edit.is_change, dry_run, edit.diff, said)


def check_described(deployment: Deployment, index_id: str) -> None:
    """Raise RequestError for an index that a template follows: a change to it alone would take it out of that."""
    index = deployment.pipeline.config.indexes.get(index_id)
    title = None if index is None else index.template
    if title is not None:
        raise RequestError(
            f"index {index_id!r} is followed by the template {title!r}, so its automations are changed for all of that "
            f"template's indexes, under `index_templates.{title}` in the file. To treat it alone, describe all of it "
            "under `indexes` in the file: no template is for it then"
        )


def changes_at(path: tuple[str, ...], fields: Mapping[str, Any], known: Collection[str]) -> list[Change]:
    """The changes that bring fields to an entry of the configuration, which is made where it is not there. None stands
    for a field's default. Raises RequestError for a field that is not ``known``."""
    for name in fields:
        if name not in known:
            raise RequestError(f"{dotted((*path, name))}: there is no such field.{did_you_mean(name, known)}")
    named = [Change((*path, name), REMOVED if value is None else value) for name, value in fields.items()]
    return [Change(path, {}), *named]


def automation_notes(before: Automation | None, after: Automation) -> Iterator[str]:
    """What follows for an automation that is new or was changed."""
    name = f"automation {after.name} of index {one_line(after.index_id)}"
    yield from _destination_notes(name, before, after)
    config = after.config
    if not config.enabled:
        yield f"{name} is disabled: it delivers nothing"
    elif config.paused:
        yield f"{name} is paused: it delivers nothing by itself until `paused` is false"
    elif before is None or before.config.trigger != config.trigger:
        yield f"{name} delivers by itself {config.by_itself}"
    erased_before = before is not None and before.config.on_upstream_delete == "erase"
    if config.on_upstream_delete == "erase" and not erased_before:
        yield f"{name} erases from now on what it delivered of a prompt run that is deleted at the source"
    if before is None:
        history = "history, which a backfill delivers" if config.start == "now" else "delivered too"
        yield (
            f"{name} begins when its index is looked at next, if it did not begin before; what is finished then is "
            f"{history}"
        )


def _destination_notes(name: str, before: Automation | None, after: Automation) -> Iterator[str]:
    here = after.destination
    moved = before is not None and not Place.of(before.destination).is_at(Place.of(here))
    try:
        owner = owner_by_either(here)
        if owner is not None and owner != here.owner:
            yield (
                f"{one_line(here.uri)} belongs to {one_line(str(owner))}: what {name} delivers there is refused; give "
                "it a folder of its own"
            )
        if before is not None and not moved and before.config.content != after.config.content:
            held = counted(len(after.holdings().runs), "prompt run")
            yield f"{name} chooses other content: of {held} that its collection holds, files are written anew as needed"
        if before is not None and moved and before.holdings().runs:
            held = counted(len(before.holdings().runs), "prompt run")
            left, connector = before.destination, one_line(before.destination.connector.connector_id)
            yield (
                f"{name} delivers to {one_line(here.uri)} from now on, all that it owes. {one_line(left.uri)}, with "
                f"{held}, stays as it is and is not kept up to date any more; `vv-exports vacuum {connector} "
                "--abandoned --dry-run` names it after the next delivery"
            )
    except VVExportsError as error:
        yield f"what {one_line(here.uri)} holds could not be looked at, so nothing is said of it: {error}"
