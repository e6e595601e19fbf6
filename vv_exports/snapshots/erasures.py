"""Tombstones: which prompt runs and media were erased, so that no later reading brings them back.

Layout in the pipeline's storage: ``erasures/<version>.json.zst``. An id is kept as a keyed hash alone: enough to know
it again, not to name it. The key lies beside the hashes: whoever has the storage can ask about an id that they guess.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument

Kind = Literal["run", "video"]


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was erased. ``digest`` is of its id. ``index_ids`` are the indexes in which it is; empty: in all.
    ``only`` are the collections out of which it is taken, where others keep it; empty: all. ``completed_at`` is None as
    long as no command came to its end."""

    kind: Kind
    digest: str
    index_ids: tuple[str, ...]
    reason: str
    at: datetime
    completed_at: datetime | None = None
    only: tuple[str, ...] = ()

    def is_in(self, index_id: str) -> bool:
        """Whether it counts in an index."""
        return not self.index_ids or index_id in self.index_ids


class _Tombstones(msgspec.Struct, frozen=True, kw_only=True):
    key: str = ""
    tombstones: tuple[Tombstone, ...] = ()


@dataclass(frozen=True)
class Excluded:
    """What is erased of one index: digests, made with ``key``."""

    key: str = ""
    runs: frozenset[str] = frozenset()
    videos: frozenset[str] = frozenset()

    def has_run(self, run_id: str) -> bool:
        """Whether a prompt run was erased."""
        return bool(self.runs) and digest_of(self.key, "run", run_id) in self.runs

    def has_video(self, video_id: str) -> bool:
        """Whether a medium was erased."""
        return bool(self.videos) and digest_of(self.key, "video", video_id) in self.videos

    def without(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch that are not of erased media."""
        if not self.videos:
            return batch
        there = pc.unique(batch.column("video_id")).to_pylist()
        erased = [video_id for video_id in there if video_id is not None and self.has_video(video_id)]
        if not erased:
            return batch
        stays = pc.invert(pc.is_in(batch.column("video_id"), value_set=pa.array(erased, pa.string())))
        return batch.filter(stays)

    def scrubbed(self, value: Any) -> Any:
        """A JSON value without the places that hold, or are named by, the id of an erased medium."""
        if not self.videos:
            return value
        match value:
            case dict():
                return {
                    name: self.scrubbed(part)
                    for name, part in value.items()
                    if not self.has_video(name) and not self._names(part)
                }
            case list():
                return [self.scrubbed(part) for part in value if not self._names(part)]
            case _:
                return value

    def _names(self, value: Any) -> bool:
        if isinstance(value, dict):
            value = value.get("video_id")
        return isinstance(value, str) and self.has_video(value)


NOTHING = Excluded()


class Tombstones:
    """The tombstones of a deployment. Usable from several processes."""

    def __init__(self, storage: Connector) -> None:
        self._document = VersionedDocument(storage, "erasures", _Tombstones, _Tombstones)

    def all(self) -> tuple[Tombstone, ...]:
        """Every tombstone, the oldest first."""
        return self._document.read().tombstones

    def excluded(self, index_id: str) -> Excluded:
        """What is erased of an index."""
        found = self._document.read()
        if not found.tombstones:
            return NOTHING
        here = [one for one in found.tombstones if one.is_in(index_id)]
        return Excluded(
            found.key,
            frozenset(one.digest for one in here if one.kind == "run"),
            frozenset(one.digest for one in here if one.kind == "video"),
        )

    def excluding_videos(self, video_ids: Iterable[str]) -> Excluded:
        """These media alone, whether or not they have tombstones."""
        key = self._document.read().key
        return Excluded(key, videos=frozenset(digest_of(key, "video", one) for one in video_ids))

    def find(self, kind: Kind, id_: str) -> Tombstone | None:
        """The tombstone of an id; None where there is none."""
        found = self._document.read()
        return next((one for one in found.tombstones if _is_of(found.key, one, kind, id_)), None)

    def taken_out(self, run_ids: Iterable[str], index_id: str, collection: str) -> tuple[str, ...]:
        """Those of an index's prompt runs that were erased, and that this collection was not to keep."""
        found = self._document.read()
        digests = {
            one.digest
            for one in found.tombstones
            if one.kind == "run" and one.is_in(index_id) and (not one.only or collection in one.only)
        }
        return tuple(one for one in run_ids if digests and digest_of(found.key, "run", one) in digests)

    def add(  # noqa: PLR0917
        self,
        kind: Kind,
        id_: str,
        index_ids: tuple[str, ...],
        reason: str,
        now: datetime,
        only: Collection[str] | None = None,
    ) -> None:
        """Set one, before anything is removed. One that is there gets the indexes and collections that it has not, and
        keeps its reason. Without ``only``, all collections are meant."""

        def added(there: _Tombstones) -> _Tombstones | None:
            key = there.key or secrets.token_hex(16)
            before = next((one for one in there.tombstones if _is_of(key, one, kind, id_)), None)
            if before is None:
                new = Tombstone(
                    kind=kind,
                    digest=digest_of(key, kind, id_),
                    index_ids=index_ids,
                    reason=reason,
                    at=now,
                    only=tuple(sorted(only or ())),
                )
                return _Tombstones(key=key, tombstones=(*there.tombstones, new))
            both = tuple(sorted({*before.index_ids, *index_ids})) if before.index_ids and index_ids else ()
            meant = tuple(sorted({*before.only, *only})) if before.only and only else ()
            if (both, meant) == (before.index_ids, before.only):
                return None
            new = msgspec.structs.replace(before, index_ids=both, only=meant, completed_at=None)
            return _Tombstones(key=key, tombstones=tuple(new if one == before else one for one in there.tombstones))

        self._document.update(added)

    def complete(self, kind: Kind, id_: str, now: datetime) -> None:
        """Note that all that could be reached is removed."""
        self._change(kind, id_, lambda one: msgspec.structs.replace(one, completed_at=one.completed_at or now))

    def lift(self, kind: Kind, id_: str) -> Tombstone | None:
        """Remove one: what it kept away may come back. Returns it; None where there was none."""
        found = self.find(kind, id_)
        self._change(kind, id_, lambda _: None)
        return found

    def _change(self, kind: Kind, id_: str, change: Callable[[Tombstone], Tombstone | None]) -> None:
        def changed(there: _Tombstones) -> _Tombstones | None:
            kept = tuple(
                new
                for one in there.tombstones
                if (new := change(one) if _is_of(there.key, one, kind, id_) else one) is not None
            )
            return None if kept == there.tombstones else _Tombstones(key=there.key, tombstones=kept)

        self._document.update(changed)


@lru_cache(65_536)
def digest_of(key: str, kind: Kind, id_: str) -> str:
    """The keyed hash of an id: 64 hex characters."""
    return hmac.new(key.encode(), f"{kind}\n{id_}".encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _is_of(key: str, one: Tombstone, kind: Kind, id_: str) -> bool:
    return one.kind == kind and one.digest == digest_of(key, kind, id_)
