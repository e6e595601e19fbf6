"""What killed deliveries leave at a destination: data files that its log does not, or no longer, hold."""

from collections.abc import Iterable

from vv_exports.connectors.base import Connector
from vv_exports.delivery.log import LogState
from vv_exports.domain.names import path_segment


def runs_with_leftovers(connector: Connector, subpath: str, state: LogState, run_ids: Iterable[str]) -> set[str]:
    """Those runs that have such files. Delivering a run removes its own, also where there is nothing new to deliver."""
    committed = {file.path for file in state.files}
    folders = {f"prompt_run_id={path_segment(run_id)}": run_id for run_id in run_ids}
    found = set()
    for file in connector.files(subpath):
        path = file.key.removeprefix(f"{subpath}/")
        folder = path.rpartition("/")[0].rpartition("/")[2]
        if path not in committed and folder in folders:
            found.add(folders[folder])
    return found
