"""Re-reading what a destination's log says is there, and naming what readers take beside it."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vv_exports.connectors.base import Connector
from vv_exports.delivery.bag import bag_problems, is_bag, payload_of
from vv_exports.delivery.cards.marks import is_card
from vv_exports.delivery.checksums import checksums, has_checksums, read_checksums
from vv_exports.delivery.destination import Destination, Left, Owner
from vv_exports.delivery.entry import DeliveredFile
from vv_exports.delivery.log import repair_command, scan_log
from vv_exports.delivery.ownership import check_log, owned_folders, owner_by_log
from vv_exports.delivery.state import LogState
from vv_exports.delivery.survey import Beside, Survey, sha256_of, survey
from vv_exports.domain.destinations import CHECKSUMS, OWNER, PIPELINES_OWN, check_subpath, is_in_table
from vv_exports.domain.progress import Work, unseen
from vv_exports.errors import DeliveredDataError, DestinationError, NotFoundError, RequestError
from vv_exports.printable import counted, one_line

_RUN_DEPTH = 3


@dataclass(frozen=True)
class Verification:
    """The outcome for one destination. ``problems`` is empty where every committed file is as it was delivered and a
    plain glob takes no other; ``advice`` says what to do about them. ``left`` says that the automation which
    delivered there does so elsewhere by now, so that nobody keeps it up to date. ``foreign`` are the paths of all files
    that are not the pipeline's, those that a plain glob takes included. ``retained`` are superseded files that are kept
    for readers that began before: a plain glob counts their rows as well. ``damaged`` are the paths of committed files
    that are missing, or are not what was delivered."""

    subpath: str
    uri: str
    prompt_runs: int
    files: int
    bytes: int
    problems: tuple[str, ...]
    advice: tuple[str, ...] = ()
    left: Left | None = None
    foreign: tuple[str, ...] = ()
    retained: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def verify(destination: Destination, work: Work = unseen) -> Verification:
    """Read every committed file of a destination, compare its size and hash with the log, and look for others.

    A log or an owner file that is damaged or gone is a problem of the destination too; what is known from the rest of
    the log is verified all the same. ``work`` is told how many bytes are to be read and were. Raises NotFoundError
    where nobody ever delivered.
    """
    found = survey(destination, whole_log=True)
    differing = damaged_files(destination, found.state.files, work)
    if differing or _in_tables(found.beside):
        # A delivery that committed meanwhile has removed what it superseded, and what looked like left over is its own.
        known, faults = (None, ()) if found.log_problem else scan_log(destination, found.state)
        found = survey(destination, None if faults else known, whole_log=True)
    state, uri = found.state, destination.uri
    owner, owner_problem = _owner(destination, found)
    log_problem = str(found.log_problem or _copied_in(destination, state, owner) or "") or None
    if not (state.count or owner or log_problem or owner_problem):
        raise NotFoundError(f"{uri} has no delivery log; nothing was ever delivered there")
    problems = [problem for problem in (log_problem, owner_problem) if problem is not None]
    damage = [differing[file] for file in state.files if file in differing]
    if not state.count and log_problem is None:
        strays = len(found.beside.strays)
        what = f"{counted(strays, 'data file')}, and no delivery log says what they are" if strays else "nothing else"
        problems.append(
            f"{uri} belongs to {owner} and holds {what}: a first delivery is under way or has died, or somebody "
            "deleted the log. Deliver there again: what is as it should be is kept, and the rest removed. Or run "
            f"{repair_command(destination, owner)}: it delivers what was there, history included."
        )
        left = []
    else:
        left = _left(destination, found.beside, log_problem)
    foreign = [
        f"{destination.uri_of(path)} is not the pipeline's, and a glob of the table's folder takes it"
        for path in sorted(filter(is_in_table, found.beside.foreign))
    ]
    told = []
    if has_checksums(state) and log_problem is None:
        told = [*checksum_problems(destination, state), *(bag_problems(destination, found) if is_bag(state) else [])]
    advice = []
    if log_problem is None:
        advice = _advice(destination, owner or owner_by_log(state), damaged=bool(damage), left=bool(left))
    if foreign:
        advice.append(
            "Move what is not the pipeline's out of the folders of the tables: readers of a glob such as `segments/**` "
            "count it, or stop at it."
        )
    return Verification(
        subpath=destination.subpath,
        uri=uri,
        prompt_runs=len(state.runs),
        files=len(state.files),
        bytes=sum(file.bytes for file in state.files),
        problems=(*problems, *damage, *left, *foreign, *told),
        advice=tuple(advice),
        left=None if found.owner is None else found.owner.left,
        foreign=tuple(sorted(found.beside.foreign)),
        retained=tuple(sorted(found.beside.retained)),
        damaged=tuple(file.path for file in state.files if file in differing),
    )


def checksum_problems(destination: Destination, state: LogState) -> list[str]:
    """What is wrong with the checksums of an export. One that an earlier version made has none."""
    data = destination.read(CHECKSUMS)
    if data in {None, checksums(state.files)}:
        return []
    return [
        f"{destination.uri_of(CHECKSUMS)} says otherwise than the delivery log: somebody has changed it. Go by the log."
    ]


def verify_by_checksums(destination: Destination) -> Verification | None:
    """Verify what has no delivery log by its checksums; None where it has none, either."""
    try:
        told = read_checksums(destination)
    except DeliveredDataError as error:
        return Verification(destination.subpath, destination.uri, 0, 0, 0, (str(error),))
    if told is None:
        return None
    problems, size = [], 0
    for path, sha256 in told.items():
        try:
            found = sha256_of(destination, path)
        except DeliveredDataError:
            problems.append(f"{destination.uri_of(path)} is missing")
        except RequestError as error:  # a link, or a path that leads elsewhere
            problems.append(str(error))
        else:
            size += found[0]
            if found[1] != sha256:
                problems.append(
                    f"{destination.uri_of(path)} has the sha256 {found[1][:16]}…, delivered was {sha256[:16]}…"
                )
    there = destination.files()
    foreign = tuple(
        sorted(path for path in there if path not in told and path != CHECKSUMS and not is_card(destination, path))
    )
    problems += [
        f"{destination.uri_of(path)} is not among the checksums, and a glob of the table's folder takes it"
        for path in filter(is_in_table, foreign)
    ]
    runs = {path.split("/")[2] for path in told if path.count("/") == _RUN_DEPTH}
    return Verification(
        destination.subpath, destination.uri, len(runs), len(told), size, tuple(problems), foreign=foreign
    )


def verify_connector(connector: Connector, subpath: str | None = None, work: Work = unseen) -> list[Verification]:
    """What ``verify`` says of a destination of a connector, or of all that it has.

    Raises DestinationError for a subpath that is none, NotFoundError where nobody ever delivered to it.
    """
    if subpath is None:
        return [verify(Destination(connector, one), work) for one in destinations(connector)]
    checked = check_subpath(subpath, boundary=connector.uri(""))
    place = Destination(connector, checked)
    if not place.files(PIPELINES_OWN) and connector.files(payload_of(f"{checked}")):
        place = Destination(connector, payload_of(checked))
    return [verify(place, work)]


def damaged_files(
    destination: Destination, files: Iterable[DeliveredFile], work: Work = unseen
) -> dict[DeliveredFile, str]:
    """Those of a destination's files that are not there, or are not what was delivered, and how."""
    read, found = list(files), {}
    work("verifying", 0, sum(file.bytes for file in read))
    for file in read:
        if (problem := _problem(destination, file)) is not None:
            found[file] = problem
        work("verifying", file.bytes, 0)
    return found


def destinations(connector: Connector) -> list[str]:
    """The subpaths of a connector that somebody owns or delivered to."""
    return [
        folder for folder in owned_folders(file.key for file in connector.files("")) if _may_be_delivered_to(folder)
    ]


def _may_be_delivered_to(folder: str) -> bool:
    """Stores take names such as ``a//b``, at which no delivery can be."""
    try:
        return check_subpath(folder, boundary="") == folder
    except DestinationError:
        return False


def _in_tables(beside: Beside) -> list[str]:
    """What a plain glob takes."""
    return [path for path in (*beside.superseded, *beside.strays, *beside.foreign) if is_in_table(path)]


def _owner(destination: Destination, found: Survey) -> tuple[Owner | None, str | None]:
    """The owner, and what is wrong with the owner file."""
    by_log = owner_by_log(found.state)
    is_whole = found.log_problem is None and _copied_in(destination, found.state, by_log) is None
    back = f"Its log says {by_log}: {_putting_back(destination, by_log, is_whole)}." if by_log is not None else ""
    if found.owner_problem is not None:
        return by_log, f"{found.owner_problem} {back}".strip()
    if found.owner is None and by_log is not None:
        return by_log, (
            f"{destination.uri_of(OWNER)} is missing, which says whose the folder is and keeps others away. {back}"
        )
    return None if found.owner is None else found.owner.owner, None


def _putting_back(destination: Destination, owner: Owner, is_whole: bool) -> str:
    if not is_whole:  # deliveries and a vacuum stop at a broken log
        return f"{repair_command(destination, owner)} writes the file anew"
    vacuum = _vacuum_command(destination)
    if owner.automation is not None:
        automation = one_line(f"{shlex.quote(owner.index_id)} {owner.automation}")
        return (
            f"`vv-exports automations run {automation}`, {repair_command(destination, owner)}, or "
            f"{vacuum}, writes the file anew"
        )
    return f"{vacuum} writes the file anew"


def _copied_in(destination: Destination, state: LogState, owner: Owner | None) -> DeliveredDataError | None:
    try:
        if owner is not None:
            check_log(replace(destination, owner=owner), state)
    except DeliveredDataError as error:
        return error
    return None


def _left(destination: Destination, beside: Beside, log_problem: str | None) -> list[str]:
    """What the pipeline left in the folders of the tables."""
    said = dict.fromkeys(beside.superseded, "was superseded or abandoned, and is still there")
    uncommitted = (
        "is not committed: a delivery is under way, or one has died"
        if log_problem is None
        else "is not committed by any entry that can be read"
    )
    said |= dict.fromkeys(beside.strays, uncommitted)
    return [f"{destination.uri_of(path)} {what}" for path, what in sorted(said.items())]


def _advice(destination: Destination, owner: Owner | None, *, damaged: bool, left: bool) -> list[str]:
    advice = []
    if damaged and owner is not None and owner.automation is not None:
        advice.append(
            f"{repair_command(destination, owner)} delivers again what is missing or altered; what is "
            "missing or cut short, the next `automations run` or reconciliation does, too."
        )
    elif damaged:
        advice.append(
            f"{repair_command(destination, owner)} delivers it again as it was, as long as the results of its prompt "
            "runs are what they were; nobody does so by himself. Else make a new one in place of this one."
        )
    if left:
        advice.append(
            f"{_vacuum_command(destination)} removes what was superseded or not committed; so does the next delivery "
            "of the same prompt run. Where the last entries of the log were cut off, "
            f"{repair_command(destination, owner)} delivers again what they held."
        )
    return advice


def _vacuum_command(destination: Destination) -> str:
    subpath = shlex.quote(destination.subpath)
    return f"`vv-exports vacuum {destination.connector.connector_id} --subpath {subpath}`"


def _problem(destination: Destination, file: DeliveredFile) -> str | None:
    uri = destination.uri_of(file.path)
    try:
        size, sha256 = sha256_of(destination, file.path)
    except DestinationError as error:  # a link was put in its place
        return str(error)
    except DeliveredDataError as error:
        is_listed = file.path in destination.files(file.path.rpartition("/")[0])
        return str(error) if is_listed else f"{uri} is missing"
    if (size, sha256) != (file.bytes, file.sha256):
        return (
            f"{uri} has {size} bytes with sha256 {sha256[:16]}…, delivered were {file.bytes} with {file.sha256[:16]}…"
        )
    return None
