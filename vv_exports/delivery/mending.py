"""Which runs of a destination differ from its log: killed deliveries leave files behind, people delete some."""

from collections.abc import Iterable

from vv_exports.connectors.base import Connector
from vv_exports.delivery.log import LogState
from vv_exports.domain.names import path_segment


def runs_to_mend(connector: Connector, subpath: str, state: LogState, run_ids: Iterable[str]) -> set[str]:
    """Those runs that have a data file too many, too few or of another size. Delivering a run mends it, also where
    there is nothing new. Looks at names and sizes only: ``verify`` reads the files.
    """
    folders = {f"prompt_run_id={path_segment(run_id)}": run_id for run_id in run_ids}
    there = {file.key.removeprefix(f"{subpath}/"): file.size for file in connector.files(subpath)}
    damaged = {file.prompt_run_id for file in state.files if there.get(file.path) != file.bytes}
    strays = there.keys() - {file.path for file in state.files}
    untidy = {path.rpartition("/")[0].rpartition("/")[2] for path in strays}
    return (damaged & set(folders.values())) | {folders[folder] for folder in untidy & folders.keys()}
