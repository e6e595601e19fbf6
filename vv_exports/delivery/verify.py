"""Re-reading what a destination's log says is there."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from vv_exports.connectors.base import Connector
from vv_exports.delivery.log import DeliveredFile, read_log
from vv_exports.delivery.ownership import owner_of
from vv_exports.domain.destinations import OWNER, PIPELINES_OWN, is_data_file, log_sequence
from vv_exports.errors import DeliveredDataError, NotFoundError


@dataclass(frozen=True)
class Verification:
    """The outcome for one destination. ``problems`` is empty where every committed file is as it was delivered."""

    subpath: str
    uri: str
    prompt_runs: int
    files: int
    bytes: int
    problems: tuple[str, ...]


def verify(connector: Connector, subpath: str) -> Verification:
    """Read every committed file of a destination and compare its size and hash with the log.

    A log that is damaged or gone is a problem of the destination too. Raises NotFoundError where nobody ever delivered.
    """
    try:
        state = read_log(connector, subpath)
        if not state.entries:
            return _verify_without_log(connector, subpath)
    except DeliveredDataError as error:
        return Verification(subpath, connector.uri(subpath), 0, 0, 0, (str(error),))
    problems = damaged_files(connector, subpath, state.files)
    if problems:
        # A delivery that committed meanwhile has removed what it superseded.
        state = read_log(connector, subpath, state)
    return Verification(
        subpath,
        connector.uri(subpath),
        len(state.runs),
        len(state.files),
        sum(file.bytes for file in state.files),
        tuple(problems[file] for file in state.files if file in problems),
    )


def _verify_without_log(connector: Connector, subpath: str) -> Verification:
    uri, owner = connector.uri(subpath), owner_of(connector, subpath)
    if owner is None:
        raise NotFoundError(f"{uri} has no delivery log; nothing was ever delivered there")
    keys = (file.key.removeprefix(f"{subpath}/") for file in connector.files(subpath))
    count = sum(is_data_file(key) for key in keys)
    problem = (
        f"{uri} belongs to {owner} and holds {count} data files, and no delivery log says what they are: a first "
        "delivery is under way or has died, or somebody deleted the log. Deliver there again: what is as it should be "
        "is kept, and the rest removed."
    )
    return Verification(subpath, uri, 0, 0, 0, (problem,) if count else ())


def damaged_files(connector: Connector, subpath: str, files: Iterable[DeliveredFile]) -> dict[DeliveredFile, str]:
    """Those of a destination's files that are not there, or are not what was delivered, and how."""
    return {file: problem for file in files if (problem := _problem(connector, subpath, file)) is not None}


def destinations(connector: Connector, below: str = "") -> list[str]:
    """The subpaths of a connector that somebody owns or delivered to, at and below a folder."""
    found = set()
    for file in connector.files(below):
        folder, marker, rest = file.key.rpartition(f"/{PIPELINES_OWN}/")
        if marker and (f"{PIPELINES_OWN}/{rest}" == OWNER or log_sequence(f"{PIPELINES_OWN}/{rest}") is not None):
            found.add(folder)
    return sorted(found)


def _problem(connector: Connector, subpath: str, file: DeliveredFile) -> str | None:
    key = f"{subpath}/{file.path}"
    try:
        with connector.open(key) as content:
            size = content.seek(0, 2)
            content.seek(0)
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    except DeliveredDataError:
        return f"{connector.uri(key)} is missing"
    if (size, sha256) != (file.bytes, file.sha256):
        return (
            f"{connector.uri(key)} has {size} bytes with sha256 {sha256[:16]}…, "
            f"delivered were {file.bytes} with {file.sha256[:16]}…"
        )
    return None
