"""Which runs of a destination differ from its log: killed deliveries leave files behind, people delete some."""

from collections.abc import Iterable

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import LogState
from vv_exports.delivery.survey import survey


def runs_to_mend(destination: Destination, state: LogState, run_ids: Iterable[str]) -> set[str]:
    """Those runs of which files are missing or of another size, or of which deliveries left files behind. Delivering a
    run mends it, also where there is nothing new. Of committed files it looks at names and sizes only: ``verify`` reads
    them. Files that are not the pipeline's make no run due.
    """
    wanted = set(run_ids)
    folders = state.folders_of(wanted)
    found = survey(destination, state)
    damaged = {file.prompt_run_id for file in found.damaged}
    left = (*found.beside.superseded, *found.beside.strays)
    untidy = {path.rpartition("/")[0] for path in left}
    return (damaged & wanted) | {folders[folder] for folder in untidy & folders.keys()}
