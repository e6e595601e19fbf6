"""The checksums of an export on demand, for people with ``sha256sum``: a file ``SHA256SUMS`` beside its tables.

It says what the log says, of the data files alone, in the form of GNU coreutils. Nothing of the pipeline reads it but
``verify``: there it stands for a log that somebody left out of a copy.
"""

import re
from collections.abc import Iterable

from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile
from vv_exports.delivery.state import LogState
from vv_exports.domain.destinations import CHECKSUMS
from vv_exports.errors import DeliveredDataError

_LINE = re.compile(r"(?P<escaped>\\?)(?P<sha256>[0-9a-f]{64}) [ *](?P<path>.+)")
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_ESCAPED = {escaped: character for character, escaped in _ESCAPES.items()}


def checksums(files: Iterable[DeliveredFile]) -> bytes:
    """What ``sha256sum`` writes of these files, and ``sha256sum -c`` reads, in the folder that they are in."""
    return "".join(_line(path, sha256) for path, sha256 in sorted((file.path, file.sha256) for file in files)).encode()


def _line(path: str, sha256: str) -> str:
    name = re.sub(r"[\\\n\r]", lambda found: _ESCAPES[found[0]], path)
    return f"{'' if name == path else chr(92)}{sha256}  {name}\n"


def read_checksums(destination: Destination) -> dict[str, str] | None:
    """The hashes by path, or None where there is no such file. Raises DeliveredDataError where it is none."""
    data = destination.read(CHECKSUMS)
    if data is None:
        return None
    found = {}
    for number, line in enumerate(data.decode(errors="replace").removesuffix("\n").split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None and line:
            raise DeliveredDataError(f"{destination.uri_of(CHECKSUMS)}: line {number} is no checksum of a file")
        if match is not None:
            path = match["path"]
            if match["escaped"]:
                path = re.sub(r"\\[\\nr]", lambda one: _ESCAPED[one[0]], path)
            found[path] = match["sha256"]
    return found


def has_checksums(state: LogState) -> bool:
    """Whether what a log is of gets such a file: an export on demand does, which stays as it is."""
    return state.last is not None and state.last.export.type != "automation"


def write_checksums(destination: Destination, state: LogState) -> None:
    """Write the checksums of what an export holds, where they are not there as they should be."""
    if not has_checksums(state):
        return
    data = checksums(state.files)
    if destination.read(CHECKSUMS) == data:
        return
    with spool_folder() as spool:
        local = spool / CHECKSUMS
        local.write_bytes(data)
        destination.connector.put(local, destination.key(CHECKSUMS))
