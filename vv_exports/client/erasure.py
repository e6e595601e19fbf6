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
        run_id: str | Sequence[str] | None = None,
        video_id: str | Sequence[str] | None = None,
        index_ids: Sequence[str] = (),
        reason: str,
        dry_run: bool = False,
    ) -> ErasureReport:
        """Take a prompt run or a medium, or several, out of everything that can be reached; in these indexes, by
        default in all. What could not be reached is in ``unreached``, and the same again tries it. Raises RequestError,
        NotFoundError.
        """
        kind, ids = _ids_of(run_id, video_id)
        history = ErasedHistory(self._deployment.instance_if_made)
        return erase(
            self._deployment.pipeline,
            kind,
            *ids,
            index_ids=index_ids,
            reason=reason,
            history=history,
            dry_run=dry_run,
        )

    def list(self) -> Sequence[Tombstone]:
        """What was erased, the oldest first."""
        return self._deployment.pipeline.snapshots.store.tombstones.all()

    def undo(
        self, *, run_id: str | Sequence[str] | None = None, video_id: str | Sequence[str] | None = None
    ) -> Sequence[str]:
        """Let something come back that was erased, as the source has it. Returns the prompt runs that are read again.
        Raises NotFoundError."""
        kind, ids = _ids_of(run_id, video_id)
        return [again for id_ in ids for again in undo(self._deployment.pipeline, kind, id_)]


def _ids_of(run_id: str | Sequence[str] | None, video_id: str | Sequence[str] | None) -> tuple[Kind, Sequence[str]]:
    runs, videos = _listed(run_id), _listed(video_id)
    if bool(runs) == bool(videos) or not all((*runs, *videos)):
        raise RequestError("say what: either --run ID or --video ID")
    return ("run", runs) if runs else ("video", videos)


def _listed(ids: str | Sequence[str] | None) -> Sequence[str]:
    return [ids] if isinstance(ids, str) else list(ids or ())
