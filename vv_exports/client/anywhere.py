"""What whoever receives a delivery can ask of it, with nothing configured."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vv_exports.connectors.anywhere import opened_at
from vv_exports.connectors.base import Connector
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import log_entry_schema
from vv_exports.delivery.file_provenance import FileProvenance, provenance_of_file
from vv_exports.delivery.ownership import owned_folders
from vv_exports.delivery.verify import Verification, verify, verify_by_checksums
from vv_exports.domain.destinations import LOG_FOLDER, OWNER, PAYLOAD, PIPELINES_OWN
from vv_exports.domain.progress import Progress
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import NotFoundError


def verify_at(
    target: str, environ: Mapping[str, str] = os.environ, *, progress: Progress | None = None
) -> Sequence[Verification]:
    """Re-read every delivered file below a folder, in a zip file or at an address (``s3://``, ``gs://``, ``az://``,
    with the environment's credentials), and compare it with the delivery log that is beside it.

    Raises NotFoundError where nothing was delivered. What is wrong is in ``problems``; there is no advice, since that
    is for whoever delivers.
    """
    with opened_at(target, environ) as connector:
        work = (progress or Progress()).work
        below = _delivered_below(connector)
        found = [replace(verify(Destination(connector, subpath), work), advice=()) for subpath in below]
        if not found:
            told = (verify_by_checksums(Destination(connector, subpath)) for subpath in ("", PAYLOAD))
            found = [by_checksums for by_checksums in told if by_checksums is not None]
        if not found:
            raise NotFoundError(
                f"{connector.uri('')} holds no delivery: nothing in it has a log ({LOG_FOLDER}). Name the folder of a "
                "delivery, or one that holds some; a file alone cannot be verified."
            )
        return found


def provenance_at(target: str, environ: Mapping[str, str] = os.environ) -> FileProvenance:
    """Where a delivered file comes from, and whether it is what was delivered: by the delivery log above it.

    Raises NotFoundError where there is no log above it, or the log does not name the file.
    """
    begin, slashes, names = target.rpartition("://")
    parts = (names if slashes else os.path.abspath(target)).split("/")  # noqa: PTH100 - links may be what is delivered
    least = 1 if slashes else 2
    for end in range(len(parts) - 1, least - 1, -1):
        folder, path = begin + slashes + "/".join(parts[:end]), "/".join(parts[end:])
        if not slashes and folder.endswith(".zip") and os.path.isfile(folder):  # noqa: PTH113
            return _provenance_in_zip(folder, path, environ)
        if not slashes and not os.path.isdir(f"{folder}/{PIPELINES_OWN}"):  # noqa: PTH112
            continue
        with opened_at(folder, environ) as connector:
            if connector.files(LOG_FOLDER):
                return provenance_of_file(Destination(connector, ""), path)
    raise NotFoundError(
        f"no folder above {target} has a delivery log ({LOG_FOLDER}): name a file where it was delivered, or in a copy "
        "of the whole folder"
    )


def log_schema() -> JsonObject:
    """The JSON Schema of an entry of a delivery log."""
    return log_entry_schema()


def _provenance_in_zip(archive: str, path: str, environ: Mapping[str, str]) -> FileProvenance:
    with opened_at(archive, environ) as connector:
        for subpath in sorted(_delivered_below(connector), key=len, reverse=True):
            if path.startswith(f"{subpath}/" if subpath else ""):
                return provenance_of_file(Destination(connector, subpath), path[len(subpath) :].lstrip("/"))
    raise NotFoundError(f"nothing in {archive} above {path} has a delivery log ({LOG_FOLDER})")


def _delivered_below(connector: Connector) -> list[str]:
    """The subpaths of all deliveries, under whatever names somebody has put them, and within one another, too; the
    empty one where the folder itself is one."""
    itself = [""] if connector.read(OWNER) is not None or connector.files(LOG_FOLDER) else []
    folders = owned_folders(file.key for file in connector.files(""))
    # Stores take names such as ``a//b``, and no delivery can be there.
    return [*itself, *(one for one in folders if not {"", ".", ".."} & set(one.split("/")))]
