"""Which indexes the source has, as it was asked last: kept in the pipeline's storage, so that those which templates of
the configuration match are known without asking the source, while Dagster loads the definitions.

An index that the source has no more stays in the list, as do the names that it had, and so keeps its automations: only
the configuration ends that. A source that fails to list changes nothing.

Layout: ``indexes/<version>.json.zst``
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import msgspec

from vv_exports.config import Config, followed_by_templates, load_config
from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.domain.prompt_runs import Index
from vv_exports.parts import open_parts

SYNC = "`vv-exports indexes sync`"
_LOG = logging.getLogger(__name__)


class ListedIndex(msgspec.Struct, frozen=True, kw_only=True):
    """An index of the source. ``gone_at`` is when it was missed first; None where the source has it. ``former_names``
    are those that it had before, the first one first."""

    name: str
    found_at: datetime
    gone_at: datetime | None = None
    former_names: tuple[str, ...] = ()


class Indexes(msgspec.Struct, frozen=True, kw_only=True):
    """What the source had, by index id. ``changed_at`` is None where it was never asked."""

    changed_at: datetime | None = None
    indexes: dict[str, ListedIndex] = {}

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The names that each of them has and had, by id, the first one first."""
        return {index_id: (*one.former_names, one.name) for index_id, one in self.indexes.items()}


@dataclass(frozen=True)
class Synced:
    """What asking the source has brought. ``config`` is the configuration with all that its templates follow now; of
    those, ``new`` and ``back`` are the ones that the source has and had not when it was asked last, and ``gone`` those
    that it has no more, with when they were missed first."""

    config: Config
    new: tuple[str, ...]
    back: tuple[str, ...]
    gone: dict[str, datetime]

    @property
    def followed(self) -> list[str]:
        """All indexes that templates follow."""
        return _of_templates(self.config)


class IndexList:
    """The list of a deployment. Usable from several processes."""

    def __init__(self, storage: Connector) -> None:
        self._document = VersionedDocument(storage, "indexes", Indexes, Indexes)

    def read(self) -> Indexes:
        """As it was kept last."""
        return self._document.read()

    def sync(self, config: Config, found: Collection[Index], now: datetime, *, dry_run: bool = False) -> Synced:
        """Keep what the source has, as long as the configuration holds with it.

        Raises ConfigurationError where it does not: two templates match an index, or two collections would meet. Then
        nothing is kept, and what is followed is followed on.
        """
        before = self.read()
        after = _with(before, found, now)
        followed = followed_by_templates(config, after.names)
        if not dry_run:
            self._document.update(lambda there: changed if (changed := _with(there, found, now)) != there else None)
        here = _of_templates(followed)
        gone_before, gone = _gone(before, here), _gone(after, here)
        return Synced(
            config=followed,
            new=tuple(index_id for index_id in here if index_id not in before.indexes),
            back=tuple(index_id for index_id in gone_before if index_id not in gone),
            gone=gone,
        )


def _of_templates(config: Config) -> list[str]:
    return [index_id for index_id, index in config.indexes.items() if index.template is not None]


def _gone(known: Indexes, index_ids: Collection[str]) -> dict[str, datetime]:
    listed = {index_id: known.indexes[index_id] for index_id in index_ids if index_id in known.indexes}
    return {index_id: one.gone_at for index_id, one in listed.items() if one.gone_at is not None}


def _with(before: Indexes, found: Collection[Index], now: datetime) -> Indexes:
    """The list after the source was asked. It is the same where it has the same: nothing is written for the moment."""
    there = {one.index_id: one.name for one in found}
    indexes: dict[str, ListedIndex] = {}
    for index_id, one in before.indexes.items():
        gone_at = None if index_id in there else one.gone_at or now
        name = there.get(index_id, one.name)
        former = one.former_names if name == one.name else (*one.former_names, one.name)
        indexes[index_id] = msgspec.structs.replace(
            one, name=name, gone_at=gone_at, former_names=tuple(dict.fromkeys(former))
        )
    for index_id, name in there.items():
        indexes.setdefault(index_id, ListedIndex(name=name, found_at=now))
    if before.changed_at is not None and indexes == before.indexes:
        return before
    return Indexes(changed_at=now, indexes=indexes)


def followed(config: Config) -> Config:
    """A configuration with the indexes that its templates match, as the list has them: reads one document of the
    storage, where there are templates. Raises ConfigurationError."""
    if not config.index_templates:
        return config
    known = IndexList(open_parts(config).storage).read()
    if known.changed_at is None:
        _warn_of_no_list()
    return followed_by_templates(config, known.names)


@cache
def _warn_of_no_list() -> None:
    """Once in a process: a command loads the configuration more than once."""
    _LOG.warning("index_templates follow no index yet: %s reads which ones the source has", SYNC)


def load(path: Path | None = None) -> Config:
    """The configuration that ``load_config`` finds, with the indexes that its templates match."""
    return followed(load_config(path))
