"""Which runs of a destination differ from its log: killed deliveries leave files behind, people delete some."""

from collections.abc import Iterable

from vv_exports.connectors.base import Connector
from vv_exports.delivery.log import LogState
from vv_exports.domain.names import path_segment


def runs_to_mend(connector: Connector, subpath: str, state: LogState, run_ids: Iterable[str]) -> set[str]:
    """Those runs that have a data file too many or too few. Delivering a run mends it, also where there is nothing new.

    Looks at names only: ``verify`` reads the files.
    """
    folders = {f"prompt_run_id={path_segment(run_id)}": run_id for run_id in run_ids}
    committed = {file.path: file.prompt_run_id for file in state.files}
    there = {file.key.removeprefix(f"{subpath}/") for file in connector.files(subpath)}
    missing = {run_id for path, run_id in committed.items() if path not in there}
    unknown = {path.rpartition("/")[0].rpartition("/")[2] for path in there - committed.keys()}
    return (missing & set(folders.values())) | {folders[folder] for folder in unknown & folders.keys()}
