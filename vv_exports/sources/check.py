"""What a check tries of any source."""

from collections.abc import Iterator, Sequence

from vv_exports.domain.findings import Finding
from vv_exports.errors import VVExportsError
from vv_exports.printable import one_line
from vv_exports.sources.base import Source, UpstreamAutomation


def check_indexes(source: Source, index_ids: Sequence[str]) -> Iterator[Finding]:
    """Whether each index is there, and its runs can be listed."""
    for index_id in index_ids:
        step = f"index {one_line(index_id)}"
        try:
            index = source.index(index_id)
            listing = source.listing(index_id)
        except VVExportsError as error:
            yield Finding(step, "failed", str(error), error)
            continue
        for run_id, problem in listing.problems.items():
            yield Finding(f"{step}, prompt run {run_id!r}", "failed", str(problem), problem)
        runs = listing.runs
        finished = sum(run.deliverable for run in runs)
        yield Finding(step, "ok", f"{index.name!r}: {len(runs)} prompt runs, {finished} of them finished")


def both_deliver(index_id: str, automation: UpstreamAutomation) -> str:
    """What to say where the platform delivers an index that this pipeline delivers too."""
    subpath = f", {one_line(str(automation.destination_subpath))}" if automation.destination_subpath else ""
    return (
        f"VideoVector's own export automation of index {index_id!r} is active (to connector "
        f"{one_line(str(automation.destination_connector_id))}{subpath}), so both it and this pipeline "
        "deliver. Pause it there, unless that is meant."
    )
