"""An export on demand as a bag of BagIt, which archives take in and check with tools of their own (RFC 8493).

The collection is the payload, in ``data/``; what is beside that is derived from it. The hashes of delivered files are
those of the delivery log, so none is read again. A bag is of version 0.97, where manifests have paths as they are: 1.0
would have a ``%`` in them encoded, as it is in the names of many ids, and the tools in use do not understand that.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import LogEntry
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import Survey, survey
from vv_exports.domain.destinations import PAYLOAD, is_in_table
from vv_exports.domain.names import path_segment
from vv_exports.errors import RequestError
from vv_exports.printable import one_line

_DECLARATION = "bagit.txt"
_LINE_BREAKS = ("%0A", "%0D")


def payload_of(subpath: str) -> str:
    """Where the collection of a bag is."""
    return f"{subpath}/{PAYLOAD}"


def bag_subpath(payload: str) -> str:
    """The inverse of ``payload_of``; any other subpath as it is."""
    parent, _, name = payload.rpartition("/")
    return parent if name == PAYLOAD else payload


def bag_of(destination: Destination) -> Destination | None:
    """The bag whose payload a destination is, where it can be one by its name, and be reached."""
    subpath = bag_subpath(destination.subpath)
    return None if subpath == destination.subpath else replace(destination, subpath=subpath)


def is_bag(state: LogState) -> bool:
    """Whether what a log is of was asked for as a bag."""
    return state.last is not None and state.last.export.bag is True


def check_bag(ids: Iterable[str]) -> None:
    """Raise RequestError where an id of a prompt or a prompt run gives a name that tools for bags misread."""
    for id_ in ids:
        if any(one in path_segment(id_) for one in _LINE_BREAKS):
            raise RequestError(
                f"the id {id_!r} has a line break in it, and what stands for that in its folder's name is one again to "
                "tools for BagIt, so that no bag of it would be valid to them: export it without --bag"
            )


def write_bag(destination: Destination, state: LogState) -> None:
    """Write what makes a destination, whose log this is, the payload of a bag, where it is not there as it should be.
    The declaration comes last: whoever sees it sees a whole bag."""
    bag = bag_of(destination)
    if bag is None:
        raise ValueError(f"{destination.uri} is not the payload of a bag")
    with spool_folder() as spool:
        for name, data in _tag_files(destination, survey(destination, state)).items():
            if bag.read(name) != data:
                local = spool / name
                local.write_bytes(data)
                bag.connector.put(local, bag.key(name))


def bag_problems(destination: Destination, found: Survey) -> list[str]:
    """What is wrong with a bag, but for what was delivered. Nothing is, where that cannot be reached from there."""
    bag = bag_of(destination)
    if bag is None:
        return []
    # What a glob of a table takes is a problem of any destination.
    others = [path for path in sorted(found.beside.foreign) if not is_in_table(path)]
    problems = [
        f"{destination.uri_of(path)} is not the pipeline's, and tools for BagIt take a bag for broken that has a file "
        "in data/ which its manifest does not name. Move it out of the bag"
        for path in others
    ]
    for name, data in _tag_files(destination, found).items():
        there = bag.read(name)
        if there is None:
            problems.append(f"{bag.uri_of(name)} is missing, without which it is no whole bag")
        elif there != data:
            problems.append(f"{bag.uri_of(name)} says otherwise than the delivery log and the files of the bag")
    return problems


def _tag_files(destination: Destination, found: Survey) -> dict[str, bytes]:
    """The files beside the payload, in the order in which they are written."""
    state = found.state
    if state.last is None:
        return {}
    payload = _payload(destination, found)
    info = _info(state.last, state, len(payload), sum(size for _, size in payload.values()))
    tags = {
        "bag-info.txt": "".join(f"{label}: {one_line(value)}\n" for label, value in info.items()).encode(),
        "manifest-sha256.txt": _manifest({f"{PAYLOAD}/{path}": sha256 for path, (sha256, _) in payload.items()}),
    }
    declaration = b"BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n"
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in {**tags, _DECLARATION: declaration}.items()}
    return {**tags, "tagmanifest-sha256.txt": _manifest(hashes), _DECLARATION: declaration}


def _payload(destination: Destination, found: Survey) -> dict[str, tuple[str, int]]:
    """Hash and size of each file of the payload that is the pipeline's: of delivered ones as the log has them."""
    beside = found.beside
    others = {*beside.foreign, *beside.strays, *beside.superseded, *beside.retained}
    payload = {file.path: (file.sha256, file.bytes) for file in found.state.files}
    for path in sorted(found.there.keys() - others - payload.keys()):
        data = destination.read(path) or b""
        payload[path] = hashlib.sha256(data).hexdigest(), len(data)
    return payload


def _info(entry: LogEntry, state: LogState, files: int, size: int) -> dict[str, str]:
    return {
        "Bag-Software-Agent": f"vv_exports {entry.provenance.vv_exports_version}",
        "Bagging-Date": entry.committed_at[:10],
        "Payload-Oxum": f"{size}.{files}",
        "External-Identifier": entry.export.id,
        "External-Description": f"Results of {len(state.runs)} prompt runs of index {entry.export.index_id}",
        "Internal-Sender-Identifier": entry.delivery_id,
    }


def _manifest(hashes: dict[str, str]) -> bytes:
    return "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(hashes.items())).encode()
