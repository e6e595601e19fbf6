"""Which prompt runs an export or an automation is about. Pure: what exists is an argument."""

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

from vv_exports.domain.prompt_runs import DELIVERABLE, PromptRun, RunStatus
from vv_exports.errors import NotFoundError, SelectionError


def chosen_runs(runs: Iterable[PromptRun], wanted: Sequence[str] | None, *, index_id: str) -> list[PromptRun]:
    """The runs that an export asks for: those named, or all that are finished where none are named (None).

    Raises SelectionError for an empty list (which is not "everything"), a run named twice, a run that is not
    finished, and an index without finished runs; NotFoundError for runs that do not exist.
    """
    by_id = {run.run_id: run for run in runs}
    if wanted is None:
        found = [run for run in by_id.values() if run.deliverable]
        if not found:
            raise SelectionError(
                f"index {index_id!r} has no finished prompt run to export; it has {len(by_id)} runs in all"
            )
        return found
    if not wanted:
        raise SelectionError(
            f"an empty list of prompt runs was given for index {index_id!r}; name at least one, or leave the list out "
            "for all"
        )
    if len(set(wanted)) != len(wanted):
        twice = sorted({run_id for run_id in wanted if wanted.count(run_id) > 1})
        raise SelectionError(f"prompt runs named twice: {', '.join(map(repr, twice))}")
    missing = [run_id for run_id in wanted if run_id not in by_id]
    if missing:
        raise NotFoundError(missing_message("prompt run", missing, by_id, f"index {index_id!r}"))
    unfinished = [run for run_id in wanted if not (run := by_id[run_id]).deliverable]
    if unfinished:
        listed = ", ".join(f"{run.run_id!r} is {run.status}" for run in unfinished)
        raise SelectionError(
            f"only completed and completed_with_failures prompt runs can be exported: {listed}. "
            "Leave them out, or wait for those that are not over."
        )
    return [run for run in by_id.values() if run.run_id in set(wanted)]


def check_deliverable(run: PromptRun) -> None:
    """Raise SelectionError for a run whose results are not to be used."""
    if not run.deliverable:
        raise SelectionError(
            f"prompt run {run.run_id!r} of index {run.index_id!r} is {run.status}; only completed and "
            "completed_with_failures runs can be exported. Leave it out, or wait if it is not over."
        )


def takes(status: str, *, on_status: Collection[str], partial: str, delivered: bool) -> bool:
    """Whether an automation delivers runs of a status by itself.

    ``on_status`` are the statuses it takes, of runs that are finished; ``partial: hold`` keeps back those that are
    completed_with_failures. What was delivered before, or released by somebody, is kept up to date.
    """
    if status not in on_status or status not in DELIVERABLE:
        return False
    return delivered or partial == "deliver" or status != RunStatus.COMPLETED_WITH_FAILURES


def missing_message(what: str, missing: Sequence[str], existing: Collection[str], where: str) -> str:
    """Which names do not exist, what is near them, and what there is."""
    listed = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")  # noqa: PLR2004
    near = get_close_matches(missing[0], existing, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    some = ", ".join(map(repr, sorted(existing)[:10])) or "none"
    more = f" and {len(existing) - 10} more" if len(existing) > 10 else ""  # noqa: PLR2004
    return f"{what} {listed} does not exist in {where}.{hint} There are: {some}{more}."
