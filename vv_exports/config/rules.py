"""Rules that need more than one entry of a configuration: a destination's connector, destinations that overlap each
other, the pipeline's storage or the archive, choices of fields that contradict each other."""

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from vv_exports.config.messages import automation_at, did_you_mean, dotted, shown
from vv_exports.config.models import PLACEHOLDER, AutomationConfig, Config, Destinations, IndexConfig
from vv_exports.config.places import Reserved, destination_place, reserved_places
from vv_exports.domain.destinations import check_subpath, comparable
from vv_exports.domain.field_rules import field_problems
from vv_exports.errors import ConfigurationError, DestinationError


def resolved(
    parts: Destinations, declared: Collection[str], problems: list[str], file: str = "this file"
) -> dict[str, IndexConfig]:
    """The indexes with every automation's subpath set; adds what is wrong to ``problems``.

    ``declared`` are the ids of all connectors in the file, which messages call ``file``. One that is missing in
    ``parts`` has problems of its own, which are told already.
    """
    folders: dict[str, str] = {}
    indexes = {}
    for index_id, index in parts.indexes.items():
        automations = {}
        for name, automation in index.automations.items():
            at = dotted(automation_at(index_id, name))
            problems += _connector_problems(at, automation, parts, declared, file)
            problems += (f"{at}.{contradiction}" for contradiction in field_problems(automation.content))
            try:
                subpath = _subpath(index_id, automation, parts)
            except DestinationError as error:
                problems.append(f"{at}.destination_subpath: {error}")
                continue
            automations[name] = automation.model_copy(update={"destination_subpath": subpath})
            if automation.destination_connector_id in parts.connectors:
                folders[at] = destination_place(parts.connectors[automation.destination_connector_id], subpath)
        indexes[index_id] = index.model_copy(update={"automations": automations})
    problems += _overlap_problems(folders)
    if isinstance(parts, Config):  # else source or storage may have a problem of its own, which is told already
        problems += _template_problems(parts, declared, file)
        problems += _reserved_problems(parts, folders)
        problems += _notification_problems(parts)
    return indexes


def followed_by_templates(config: Config, known: Mapping[str, Sequence[str]]) -> Config:
    """The configuration with the indexes that its templates match. ``known`` are the names that each one has and had,
    by id: the first that matches holds, so that another name at the source ends nothing. One that is described itself
    is none of a template's. The rules hold for all of them. They stay in the order in which they were found: names in
    Dagster depend on it, and a new one renames no other.

    Raises ConfigurationError.
    """
    described, matched, problems = config.described, dict[str, str](), list[str]()
    for index_id, names in known.items():
        if index_id in described:
            continue
        by_name = [
            (name, [title for title, one in config.index_templates.items() if one.matches(index_id, name)])
            for name in names
        ]
        name, fitting = next((one for one in by_name if one[1]), ("", []))
        if len(fitting) > 1:
            problems.append(
                f"index_templates: index {shown(index_id)} ({shown(name)}) matches {' and '.join(fitting)}; let all "
                "but one `exclude` it, or describe it under `indexes`"
            )
        elif fitting:
            matched[index_id] = fitting[0]
    indexes = {**described, **{one: config.index_templates[title].of(one, title) for one, title in matched.items()}}
    found = resolved(config.model_copy(update={"indexes": indexes}), config.connectors, problems)
    if problems:
        raise ConfigurationError(f"{config.file or 'the configuration'}, with the indexes of `storage`", problems)
    return config.model_copy(update={"indexes": found})


def _template_problems(config: Config, declared: Collection[str], file: str) -> Iterator[str]:
    """What can be said of templates before anybody knows which indexes there are."""
    for title, template in config.index_templates.items():
        for name, automation in template.automations.items():
            at = dotted(("index_templates", title, "automations", name))
            yield from _connector_problems(at, automation, config, declared, file)
            yield from (f"{at}.{contradiction}" for contradiction in field_problems(automation.content))
            subpath = automation.destination_subpath
            if subpath is not None and PLACEHOLDER not in subpath:
                yield (
                    f"{at}.destination_subpath: {shown(subpath)} is the same for all indexes that match; put "
                    f"{PLACEHOLDER} in it, or leave it out for the index id"
                )


def _connector_problems(
    at: str, automation: AutomationConfig, parts: Destinations, declared: Collection[str], file: str
) -> Iterator[str]:
    connector_id = automation.destination_connector_id
    place = f"{at}.destination_connector_id: {shown(connector_id)}"
    if connector_id not in declared:
        yield f"{place} is not a connector of {file}.{did_you_mean(connector_id, declared, 'There is')}"
    elif connector_id in parts.connectors and "export" not in parts.connectors[connector_id].scopes:
        scopes = ", ".join(sorted(parts.connectors[connector_id].scopes))
        at_connector = dotted(("connectors", connector_id, "scopes"))
        yield f"{place} has the scopes [{scopes}]; a destination needs export in {at_connector}"


def _subpath(index_id: str, automation: AutomationConfig, parts: Destinations) -> str:
    connector_id = automation.destination_connector_id
    connector = parts.connectors.get(connector_id)
    boundary = connector.boundary if connector else f"connector {connector_id!r}"
    if automation.destination_subpath is not None:
        return check_subpath(automation.destination_subpath, boundary=boundary)
    try:
        return check_subpath(index_id, boundary=boundary)
    except DestinationError as error:
        raise DestinationError(f"must be set, as the index id cannot stand in for it: {error}") from error


def _overlap_problems(folders: Mapping[str, str]) -> Iterator[str]:
    """``folders``: automation's place in the file -> its full folder."""
    taken: dict[tuple[str, ...], str] = {}
    by_place = {at: comparable(folder) for at, folder in folders.items()}
    for at, segments in sorted(by_place.items(), key=lambda each: len(each[1])):
        outer = next((taken[head] for n in range(len(segments) + 1) if (head := segments[:n]) in taken), None)
        if outer is None:
            taken[segments] = at
            continue
        yield (
            f"{at}.destination_subpath: delivers to {folders[at]!r}, which is the folder of {outer} "
            f"({folders[outer]!r}) or inside it; give each automation a folder of its own"
        )


def _reserved_problems(config: Config, folders: Mapping[str, str]) -> Iterator[str]:
    """The pipeline's own files and the archive are none of a collection's, and a collection none of theirs."""
    storage, *archives = reserved = reserved_places(config)
    for archive in archives:
        if any(archive.meets(place) for place in storage.places):
            yield f"storage: keeps its files in {_meeting(storage.shown, archive)}"
    for at, folder in folders.items():
        for one in reserved:
            if one.meets(folder):
                yield f"{at}.destination_subpath: delivers to {_meeting(folder, one)}"
    # Of the others the subpath of an export on demand decides, when there is one.
    named = {one.destination_connector_id for index in config.indexes.values() for one in index.automations.values()}
    for connector_id, connector in config.connectors.items():
        if connector_id not in named and "export" in connector.scopes:
            boundary = destination_place(connector, "")
            for one in reserved:
                if one.holds(boundary):
                    yield f"{dotted(('connectors', connector_id))}: delivers below {_meeting(boundary, one)}"


def _notification_problems(config: Config) -> Iterator[str]:
    known = [f"{index_id}/{name}" for index_id, index in config.indexes.items() for name in index.automations]
    for name, target in config.notifications.targets.items():
        for unknown in sorted((target.automations or frozenset()).difference(known)):
            if _may_be_of_a_template(config, unknown):
                continue
            at = dotted(("notifications", "targets", name, "automations"))
            yield f"{at}: {shown(unknown)} is not an automation of this file.{did_you_mean(unknown, known, 'There is')}"


def _may_be_of_a_template(config: Config, automation: str) -> bool:
    """Whether an automation may be one of an index that is not known yet."""
    index_id, _, name = automation.rpartition("/")
    return index_id not in config.indexes and any(
        name in one.automations and (one.matches(index_id, "") or bool(one.match_name))
        for one in config.index_templates.values()
    )


def check_apart(config: Config, connector_id: str, subpath: str) -> None:
    """Raise DestinationError for a destination of now that is, holds or is inside ``storage`` or the source archive.

    ``subpath`` is empty for an export that makes its own folder at the boundary: that may have either beside it.
    """
    place = destination_place(config.connector(connector_id), subpath)
    for one in reserved_places(config):
        if one.meets(place) if subpath else one.holds(place):
            raise DestinationError(
                f"destination {subpath!r} of connector {connector_id!r} delivers to {_meeting(place, one)}"
            )


def _meeting(place: str, reserved: Reserved) -> str:
    return (
        f"{place!r}, and {reserved.called} is {reserved.shown!r}, the same place, above it or inside it; keep "
        f"{reserved.apart}"
    )


def without_faulty(data: Mapping[str, Any], errors: Iterable[ErrorDetails]) -> dict[str, Any]:
    """The file without what has problems of its own, for the rules between entries.

    An automation goes as a whole only where the problem hides where it delivers to.
    """
    rest = copy.deepcopy(dict(data))
    for error in errors:
        match error["loc"]:
            case ("connectors", connector_id, *_):
                rest["connectors"].pop(connector_id, None)
            case ("indexes", index_id, "automations", name, *field):
                automations = rest["indexes"].get(index_id, {}).get("automations", {})
                if field and field[0] not in {"destination_connector_id", "destination_subpath", "[key]"}:
                    automations.get(name, {}).pop(field[0], None)
                    if field[0] == "schedule":
                        automations.get(name, {}).pop("trigger", None)  # which would miss it
                else:
                    automations.pop(name, None)
            case ("indexes", index_id, *_):
                rest["indexes"].pop(index_id, None)
            case (key, *_):
                rest.pop(str(key), None)
    return rest
