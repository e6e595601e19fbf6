"""Re-reading what a destination's log says is there."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from vv_exports.connectors.base import Connector
from vv_exports.delivery.log import DeliveredFile, read_log
from vv_exports.domain.destinations import LOG_FOLDER
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
    """Read every committed file of a destination and compare its size and hash with the log."""
    state = read_log(connector, subpath)
    if not state.entries:
        raise NotFoundError(f"{connector.uri(subpath)} has no delivery log; nothing was ever delivered there")
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


def damaged_files(connector: Connector, subpath: str, files: Iterable[DeliveredFile]) -> dict[DeliveredFile, str]:
    """Those of a destination's files that are not there, or are not what was delivered, and how."""
    return {file: problem for file in files if (problem := _problem(connector, subpath, file)) is not None}


def destinations(connector: Connector, below: str = "") -> list[str]:
    """The subpaths of a connector that hold a delivery log, at and below a folder."""
    first = f"/{LOG_FOLDER}/{0:020}.json"
    return [file.key.removesuffix(first) for file in connector.files(below) if file.key.endswith(first)]


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
