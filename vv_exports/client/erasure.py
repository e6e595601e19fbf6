"""Erasure through the client."""

from collections.abc import Sequence

from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.erased_history import ErasedHistory
from vv_exports.erasure import ErasureReport, erase, undo
from vv_exports.errors import RequestError
from vv_exports.snapshots.erasures import Kind, Tombstone


@tells_of_the_instance
class Erasure:
    """What must be forgotten: a prompt run, or a medium."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def erase(
        self,
        *,
        run_id: str | None = None,
        video_id: str | None = None,
        index_ids: Sequence[str] = (),
        reason: str,
        dry_run: bool = False,
    ) -> ErasureReport:
        """Take a prompt run or a medium out of everything that can be reached; in these indexes, by default in all.
        What could not be reached is in ``unreached``, and the same again tries it. Raises RequestError, NotFoundError.
        """
        kind, id_ = _one_of(run_id, video_id)
        history = ErasedHistory(self._deployment.instance_if_made)
        return erase(
            self._deployment.pipeline,
            kind,
            id_,
            index_ids=index_ids,
            reason=reason,
            history=history,
            dry_run=dry_run,
        )

    def list(self) -> Sequence[Tombstone]:
        """What was erased, the oldest first."""
        return self._deployment.pipeline.snapshots.store.tombstones.all()

    def undo(self, *, run_id: str | None = None, video_id: str | None = None) -> Sequence[str]:
        """Let something come back that was erased, as the source has it. Returns the prompt runs that are read again.
        Raises NotFoundError."""
        return undo(self._deployment.pipeline, *_one_of(run_id, video_id))


def _one_of(run_id: str | None, video_id: str | None) -> tuple[Kind, str]:
    if run_id and not video_id:
        return "run", run_id
    if video_id and not run_id:
        return "video", video_id
    raise RequestError("say what: either --run ID or --video ID")
