"""Collections that their automation has left for another place: which there are, and removing one.

The owner file says it, so that everybody who looks there knows, and so that nothing is removed that a present
automation, or an export on demand, holds.
"""

import logging
from dataclasses import dataclass

from vv_exports.connectors.base import Connector
from vv_exports.connectors.lease import only_writer
from vv_exports.delivery.destination import Destination, Left, Owner
from vv_exports.delivery.ownership import owner_file
from vv_exports.delivery.survey import is_of_the_log, survey
from vv_exports.delivery.vacuum import discard_unfinished, sweep
from vv_exports.delivery.verify import destinations
from vv_exports.domain.destinations import CARD, CROISSANT, LOG_FOLDER, OWNER, registered_in
from vv_exports.errors import DeliveredDataError, DestinationError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removal:
    """What was removed of a collection that was left, or would be: all of its own files. ``left_alone`` are files that
    are not the pipeline's. Paths are relative to the subpath."""

    subpath: str
    uri: str
    owner: Owner
    left: Left
    files: tuple[str, ...]
    uploads: tuple[str, ...]
    left_alone: tuple[str, ...]
    bytes: int
    dry_run: bool


def left_destinations(connector: Connector) -> dict[str, Left]:
    """The subpaths of a connector that an automation has left, and since when for where. Copies of such are none."""
    found = {}
    for subpath in destinations(connector):
        try:
            file = owner_file(Destination(connector, subpath))
        except (
            DeliveredDataError,
            DestinationError,
        ) as error:  # whoever left it has said so in a file that can be read
            _LOG.warning("%s is not looked at: %s", connector.uri(subpath), error)
            continue
        if file is None or file.left is None:
            continue
        if (copy := _copy(connector.uri(subpath), file.left)) is not None:
            _LOG.warning("%s", copy)
            continue
        found[subpath] = file.left
    return found


def _copy(uri: str, left: Left) -> str | None:
    """Why a folder that says it was left is not removed: somebody has copied or moved it there. None where it is the
    place itself."""
    if left.place == uri:
        return None
    return f"{uri} is a copy of {left.place or 'a collection'}, which was {left}: it is somebody's, and is not removed"


def remove_left(destination: Destination, *, dry_run: bool = False) -> Removal:
    """Remove a collection that was left: its tables, its log, and last its owner file, so that this can be repeated.

    Raises DestinationError where nobody has left it. Whether an automation of the configuration delivers there by now
    is the caller's to know.
    """
    with only_writer(destination.connector, destination.subpath):
        found = survey(destination)
        if found.owner_problem is not None:
            raise found.owner_problem
        if found.owner is None or found.owner.left is None:
            raise DestinationError(
                f"{destination.uri} is not a collection that its automation has left, so it is not removed; "
                "`vv-exports verify` says whose it is"
            )
        if (copy := _copy(destination.uri, found.owner.left)) is not None:
            raise DestinationError(copy)
        own = {file.path for file in found.state.files} | found.beside.superseded.keys()
        own |= found.beside.retained.keys() | found.beside.strays.keys()
        own |= {path for path in found.there if is_of_the_log(path) or registered_in(path) is not None}
        own |= {CARD, CROISSANT} - found.beside.foreign.keys()
        own = (own & found.there.keys()) - found.links
        # The log goes after what it names, and the claim after all.
        files = sorted(own, key=lambda path: (path == OWNER, path.startswith(f"{LOG_FOLDER}/"), path))
        uploads = discard_unfinished(destination, dry_run=dry_run)
        if not dry_run:
            destination.connector.delete([destination.key(path) for path in files if path != OWNER])
            destination.connector.delete([destination.key(OWNER)])
            sweep(destination.connector)
    return Removal(
        subpath=destination.subpath,
        uri=destination.uri,
        owner=found.owner.owner,
        left=found.owner.left,
        files=tuple(files),
        uploads=uploads,
        left_alone=tuple(sorted(found.there.keys() - own)),
        bytes=sum(found.there[path] for path in own),
        dry_run=dry_run,
    )
