"""Whether a connector gives what deliveries need: tried step by step, below its boundary, leaving nothing behind."""

from collections.abc import Callable, Iterator

from vv_exports.connectors.base import Connector
from vv_exports.connectors.spool import spool_folder
from vv_exports.connectors.trials import TRIALS
from vv_exports.domain.findings import Finding
from vv_exports.errors import CredentialsError, ForbiddenError, RequestError, VVExportsError

_CONTENT = b"written by `vv-exports connectors test`; it may be deleted\n"


def check_connector(connector: Connector) -> Iterator[Finding]:
    """Try what deliveries do. Ends where going on is of no use. Never raises an error of ours."""
    key = f"{TRIALS}/test"
    steps: list[tuple[str, Callable[[], str]]] = [
        *connector.introduction(),
        ("list", lambda: _listed(connector)),
        ("write", lambda: _write(connector, key)),
        ("read back", lambda: _read(connector, key)),
    ]
    for step, tried in steps:
        try:
            yield Finding(step, "ok", tried())
        except VVExportsError as error:
            yield Finding(step, "failed", str(error), error)
            return
    deleted = _deleted(connector, key)
    yield deleted
    if deleted.outcome == "failed":
        return
    yield _taken_name(connector)
    yield _unfinished(connector)
    yield Finding(
        "boundary",
        "ok",
        f"everything above was done below {connector.uri('')}; nothing outside it need be listed, read or written",
    )


def _listed(connector: Connector) -> str:
    connector.files(TRIALS)
    return f"what is below {connector.uri('')} can be listed"


def _write(connector: Connector, key: str) -> str:
    with spool_folder() as spool:
        local = spool / "trial"
        local.write_bytes(_CONTENT)
        connector.put(local, key)
    return f"{connector.uri(key)} ({len(_CONTENT)} bytes)"


def _read(connector: Connector, key: str) -> str:
    found = connector.read(key)
    if found != _CONTENT:
        raise VVExportsError(
            f"{connector.connector_id}: {connector.uri(key)} was written, and reading it gave "
            f"{'nothing' if found is None else f'{len(found)} other bytes'}. The store may answer from a cache."
        )
    return "the same bytes"


def _deleted(connector: Connector, key: str) -> Finding:
    step = "delete"
    try:
        _delete(connector, key)
    except ForbiddenError as error:
        return Finding(
            step,
            "warning",
            f"not allowed, so {connector.uri(key)} stays, and so do the files that deliveries supersede, until "
            f"`vv-exports vacuum` removes them with credentials that may: {error}",
        )
    except CredentialsError as error:
        return Finding(step, "failed", str(error), error)
    except RequestError as error:
        return Finding(
            step,
            "warning",
            f"the store does not do it, so {connector.uri(key)} stays, and so do the files that deliveries supersede: "
            f"{error}",
        )
    except VVExportsError as error:
        return Finding(step, "failed", str(error), error)
    return Finding(step, "ok", "it is gone")


def _delete(connector: Connector, key: str) -> None:
    connector.delete([key])
    if connector.read(key) is not None:
        raise VVExportsError(f"{connector.connector_id}: {connector.uri(key)} was deleted, and can still be read")


def _taken_name(connector: Connector) -> Finding:
    step = "second create"
    try:
        if connector.try_taken_name():
            return Finding(step, "ok", "refused, as the delivery log needs it: of several writers one wins")
    except VVExportsError as error:
        return Finding(step, "failed", str(error), error)
    return Finding(
        step,
        "warning",
        "accepted: the store does not decide among writers, so deliveries to it are made in single-writer mode. Let "
        "only one machine deliver to each destination. The delivery log says it in each entry.",
    )


def _unfinished(connector: Connector) -> Finding:
    step = "unfinished uploads"
    try:
        count = len(connector.unfinished(""))
    except VVExportsError as error:
        return Finding(step, "warning", f"cannot be listed, so `vv-exports vacuum` will not abort them: {error}")
    return Finding(step, "ok", f"{count} below the boundary; `vv-exports vacuum` aborts those of a destination")
