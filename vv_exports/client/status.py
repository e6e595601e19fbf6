"""Whether collections are complete and the newest, when they were delivered to, and what their verification found."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from vv_exports.automations.automation import Automation
from vv_exports.checks.outcome import CheckOutcome, utc
from vv_exports.checks.verification import verification
from vv_exports.client.automations import LOOKED_AT_ONCE, Automations, AutomationState
from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.pauses import Switches
from vv_exports.errors import CredentialsError, TransientError, VVExportsError
from vv_exports.sources.base import Listing

_WAITS_FOR = {"schedule": "its schedule", "manual": "`vv-exports automations run`"}


@dataclass(frozen=True)
class SourceStatus:
    """The prompt runs of an index as the source has them now: how many there are, and are finished. Both are None where
    it could not be asked; ``error`` says why."""

    prompt_runs: int | None = None
    finished: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class CollectionStatus:
    """Of one automation's collection."""

    source: SourceStatus
    state: AutomationState
    verification: CheckOutcome

    @property
    def is_known(self) -> bool:
        """Whether both ends could be asked."""
        return self.source.error is None and self.state.unreadable is None

    @property
    def complete(self) -> bool | None:
        """Whether it holds all that it is to hold, as the source has it now; None where that is not known."""
        state = self.state
        if not self.is_known:
            return None
        return state.began_at is not None and not (state.due or state.failing or state.held)

    @property
    def answer(self) -> str:
        """The same in words."""
        state = self.state
        owed = ", ".join(
            f"{count:,} {what}"
            for count, what in ((state.due, "due"), (state.failing, "failing"), (state.held, "held"))
            if count
        )
        if state.unreadable is not None:
            said = "not known: what it holds, or is to hold, cannot be read"
        elif self.source.error is not None:
            said = "not known: the source cannot be asked; the figures are of what was read of it before"
            said += f", and by that it is not complete: {owed}" if owed else ""
        elif state.began_at is None:
            said = "it has not begun: `vv-exports automations run`, or the Dagster daemon, lets it begin"
        elif owed:
            said = f"not complete: {owed}"
        else:
            said = "complete, and the newest"
        if state.history and state.unreadable is None:
            said += f"; without {state.history:,} of history, which a backfill delivers"
        if not state.enabled:
            said += "; disabled in the configuration"
        elif state.paused:
            said += f"; paused by {state.paused_by} ({state.pause_reason})"
        elif state.trigger != "finished" and state.due:
            said += f"; it waits for {_WAITS_FOR[state.trigger]}"
        return said

    @property
    def document(self) -> dict[str, Any]:
        """All of it, as JSON has it; figures that are not known are null."""
        state, verified = self.state, self.verification
        has_figures = state.unreadable is None
        return {
            "index_id": state.index_id,
            "automation": state.automation,
            "complete": self.complete,
            "answer": self.answer,
            "destination_uri": state.destination_uri,
            "enabled": state.enabled,
            "trigger": state.trigger,
            "paused": state.paused,
            "paused_by": state.paused_by,
            "pause_reason": state.pause_reason,
            "began_at": state.began_at,
            "source_runs": self.source.prompt_runs,
            "source_finished": self.source.finished,
            "source_error": self.source.error,
            "delivered": state.delivered if has_figures or state.delivered else None,
            "due": state.due if has_figures else None,
            "due_why": state.due_why if has_figures else {},
            "due_runs": list(state.due_runs) if has_figures else [],
            "oldest_due_run": state.oldest_due_run if has_figures else None,
            "oldest_due_at": state.oldest_due_at if has_figures else None,
            "held": state.held if has_figures else None,
            "held_why": state.held_why if has_figures else {},
            "held_runs": list(state.held_runs) if has_figures else [],
            "failing": state.failing if has_figures else None,
            "problems": state.problems,
            "history": state.history if has_figures else None,
            "gone": state.gone if has_figures else None,
            "last_delivery_at": state.last_delivery_at,
            "last_error": state.last_error,
            "verification": verified.outcome,
            "verified_at": None if verified.at is None else utc(verified.at),
            "verification_found": verified.description,
        }


@tells_of_the_instance
class Status:
    """Answers about collections."""

    def __init__(self, deployment: Deployment, automations: Automations) -> None:
        self._deployment = deployment
        self._automations = automations

    def list(self, index_id: str | None, automation: str | None) -> Sequence[CollectionStatus]:
        """Of all collections, those of an index, or one. Raises NotFoundError for what is not configured."""
        pipeline = self._deployment.pipeline
        if index_id is None:
            chosen = [*pipeline.automations]
        elif automation is None:
            pipeline.config.index(index_id)
            chosen = [one for one in pipeline.automations if one.index_id == index_id]
        else:
            chosen = [pipeline.automations.get(index_id, automation)]
        switches = self._automations.switches()
        found: list[CollectionStatus] = []
        out_of_reach: VVExportsError | None = None
        for of_index, automations in groupby(chosen, lambda one: one.index_id):
            listing, error = None, out_of_reach
            if out_of_reach is None:
                try:
                    listing = pipeline.indexes.listing(of_index)
                except VVExportsError as problem:
                    error = problem
            if isinstance(error, TransientError | CredentialsError):
                out_of_reach = error  # for any index: each would wait as long again
            of = partial(self._of, listing=listing, error=error, switches=switches)
            with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:  # each is some requests to stores
                found += pool.map(of, automations)
        return found

    def _of(
        self, automation: Automation, listing: Listing | None, error: VVExportsError | None, switches: Switches
    ) -> CollectionStatus:
        if listing is None:
            source = SourceStatus(error=str(error))
        else:
            source = SourceStatus(len(listing.run_ids), sum(run.deliverable for run in listing.runs))
        index_id, name, last = automation.index_id, automation.name, automation.verifications.last()
        return CollectionStatus(
            source,
            self._automations.state(automation, listing, switches),
            verification(index_id, name, automation.destination.uri, last),
        )
