"""Rules that need more than one entry of a configuration: a destination's connector, two destinations that overlap."""

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from vv_exports.config.connectors import ConnectorConfig, real_folder
from vv_exports.config.models import AutomationConfig, Config, Destinations, IndexConfig
from vv_exports.config.wording import automation_at, did_you_mean, dotted, shown
from vv_exports.domain.destinations import check_subpath, comparable
from vv_exports.errors import DestinationError


def resolved(parts: Destinations, declared: Collection[str], problems: list[str]) -> dict[str, IndexConfig]:
    """The indexes with every automation's subpath set; adds what is wrong to ``problems``.

    ``declared`` are the ids of all connectors in the file. One that is missing in ``parts`` has problems of
    its own, which are told already.
    """
    boundaries = {key: connector.real_boundary() for key, connector in parts.connectors.items()}
    folders: dict[str, str] = {}
    indexes = {}
    for index_id, index in parts.indexes.items():
        automations = {}
        for name, automation in index.automations.items():
            at = dotted(automation_at(index_id, name))
            problems += _connector_problems(at, automation, parts, declared)
            try:
                subpath = _subpath(index_id, automation, parts)
            except DestinationError as error:
                problems.append(f"{at}.destination_subpath: {error}")
                continue
            automations[name] = automation.model_copy(update={"destination_subpath": subpath})
            if automation.destination_connector_id in boundaries:
                folders[at] = f"{boundaries[automation.destination_connector_id]}/{subpath}"
        indexes[index_id] = index.model_copy(update={"automations": automations})
    problems += _overlap_problems(folders)
    if isinstance(parts, Config):  # else storage has a problem of its own, which is told already
        problems += _storage_problems(parts.storage, folders)
    return indexes


def _connector_problems(
    at: str, automation: AutomationConfig, parts: Destinations, declared: Collection[str]
) -> Iterator[str]:
    connector_id = automation.destination_connector_id
    place = f"{at}.destination_connector_id: {shown(connector_id)}"
    if connector_id not in declared:
        yield f"{place} is not a connector of this file.{did_you_mean(connector_id, declared, 'There is')}"
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


def _storage_problems(storage: str | ConnectorConfig, folders: Mapping[str, str]) -> Iterator[str]:
    """The pipeline's own files are none of a collection's, and a collection none of the pipeline's."""
    place = real_folder(storage) if isinstance(storage, str) else storage.real_boundary()
    ours = comparable(place)
    for at, folder in folders.items():
        theirs = comparable(folder)
        if ours[: len(theirs)] == theirs[: len(ours)]:
            yield (
                f"{at}.destination_subpath: delivers to {folder!r}, and `storage` is {place!r}, the same place, above "
                "it or inside it; keep the pipeline's own files apart from what it delivers"
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
                else:
                    automations.pop(name, None)
            case ("indexes", index_id, *_):
                rest["indexes"].pop(index_id, None)
            case (key, *_):
                rest.pop(str(key), None)
    return rest
