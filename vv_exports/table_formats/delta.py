"""Delta tables of a collection. Each has its log beside the data, where readers of Delta look for it:
``segments/prompt_id=prm_1/_delta_log/``.

A commit of Delta is a file that is put if absent, which is what connectors promise of the delivery log: so these are
written by the same connector, with its credentials, its turns where a store does not decide among writers, and its
errors. No library of Delta's is needed for that; readers have one.
"""

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain

import msgspec
import pyarrow as pa

from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.destination import Destination
from vv_exports.domain.destinations import DELTA_LOG, registered_in
from vv_exports.errors import DeliveredDataError, TableMovedOnError
from vv_exports.snapshots.columns import Object
from vv_exports.table_formats import delta_checkpoint
from vv_exports.table_formats.base import Added, Change, FormatName, Found, Head
from vv_exports.table_formats.delta_log import (
    APP,
    LAST_CHECKPOINT,
    PROTOCOL,
    Action,
    add,
    checkpoint_name,
    commit_actions,
    commit_name,
    encoded,
    metadata,
    milliseconds,
    path_of,
    transaction,
)
from vv_exports.table_formats.delta_schema import delta_schema, schema_id

_VERSIONS_TO_A_CHECKPOINT = 100


class _LastCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    size: int


class DeltaTables:
    """See ``RegisteredTables``."""

    name: FormatName = "delta"

    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def names(self) -> Collection[str]:
        """Those that have a log, or a piece of one."""
        there = self._destination.files()
        return {name for path in there if f"/{DELTA_LOG}/" in path and (name := registered_in(path)) is not None}

    def location(self, name: str) -> str:
        """The table's folder."""
        return self._destination.uri_of(name)

    def columns_id(self, columns: Object) -> str:
        """Of the table's schema."""
        return schema_id(delta_schema(columns))

    def read(self, name: str) -> Found | None:
        """By its newest checkpoint and the commits since."""
        begin = self._last_checkpoint(name)
        reading = _Reading(name)
        try:
            if begin is not None:
                with self._destination.connector.open(self._key(name, checkpoint_name(begin))) as file:
                    reading.replay(begin, delta_checkpoint.read(file))
            for version in self._versions(name, begin):
                reading.replay(version, self._commit(name, version))
            return reading.found()
        except (msgspec.MsgspecError, pa.ArrowException, KeyError, TypeError, AttributeError, OSError) as error:
            raise self._unreadable(name, repr(error)) from error

    def commit(self, name: str, head: Head | None, change: Change) -> Head:
        """Put the next commit if there is none. One with the same bytes is this change, made before."""
        schema = None if change.columns is None else delta_schema(change.columns)
        columns = "" if head is None else head.columns
        if schema is not None:
            same, columns = schema_id(schema) == columns, schema_id(schema)
            schema = None if same else schema
        after = Head(
            version=0 if head is None else head.version + 1,
            entry=change.entry,
            columns=columns,
            table_id=self._new_id(name, change) if head is None else head.table_id,
            created_ms=milliseconds(change.committed_at) if head is None else head.created_ms,
        )
        path = commit_name(after.version)
        data = encoded(commit_actions(name, change, after, schema))
        if not self._destination.connector.create(self._key(name, path), data):
            there = self._destination.read(f"{name}/{path}")
            if there != data:
                raise TableMovedOnError(f"{self._destination.uri_of(f'{name}/{path}')} is there already")
        return after

    def checkpoint_is_due(self, before: Head | None, head: Head) -> bool:
        """At its first version, and after each hundred. Whoever reads the folder with a pattern that takes checkpoints,
        too, sees that at once then, and not after a hundred deliveries."""
        if before is None:
            return True
        return head.version // _VERSIONS_TO_A_CHECKPOINT > before.version // _VERSIONS_TO_A_CHECKPOINT

    def keep_checkpoint(self, name: str, head: Head, files: Iterable[Added], columns: Object) -> None:
        """The checkpoint of a version, and then the hint that names it."""
        connector = self._destination.connector
        about: list[Action] = [
            {"protocol": PROTOCOL},
            {"metaData": metadata(name, head, delta_schema(columns))},
            {"txn": transaction(head)},
        ]
        with spool_folder() as spool:
            path = spool / "checkpoint"
            size = delta_checkpoint.write(path, chain(about, ({"add": add(name, one)} for one in files)))
            connector.put(path, self._key(name, checkpoint_name(head.version)))
            path.write_bytes(msgspec.json.encode(_LastCheckpoint(version=head.version, size=size)))
            connector.put(path, self._key(name, LAST_CHECKPOINT))

    def drop(self, name: str) -> None:
        """Remove its log: the hint first, then from the newest version on, so that one that is half gone is an earlier
        state of the table, and no broken one."""
        there = [path for path in self._destination.files(f"{name}/{DELTA_LOG}") if registered_in(path) == name]
        hint = f"{name}/{LAST_CHECKPOINT}"
        for path in sorted(there, key=lambda one: (one == hint, one), reverse=True):
            self._destination.connector.delete([self._destination.key(path)])

    def close(self) -> None:
        """There is nothing to let go of."""

    def _last_checkpoint(self, name: str) -> int | None:
        data = self._destination.read(f"{name}/{LAST_CHECKPOINT}")
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=_LastCheckpoint).version
        except msgspec.MsgspecError:
            return None  # readers begin at the first commit then, and so do we

    def _versions(self, name: str, begin: int | None) -> list[int]:
        """Those behind a checkpoint, without a gap."""
        first = 0 if begin is None else begin + 1
        after = "" if begin is None else f"{name}/{checkpoint_name(begin)}"
        listed = self._destination.files(f"{name}/{DELTA_LOG}", after=after)
        numbers = [path.rpartition("/")[2].removesuffix(".json") for path in listed if path.endswith(".json")]
        versions = sorted(int(one) for one in numbers if one.isdigit() and int(one) >= first)
        if versions != list(range(first, first + len(versions))):
            raise self._unreadable(name, "a commit is missing")
        return versions

    def _commit(self, name: str, version: int) -> list[Action]:
        data = self._destination.read(f"{name}/{commit_name(version)}")
        if data is None:
            raise self._unreadable(name, f"version {version} was there a moment ago")
        return [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]

    def _unreadable(self, name: str, why: str) -> DeliveredDataError:
        return DeliveredDataError(
            f"the log of the Delta table {self.location(name)} cannot be read: {why}. `vv-exports tables rebuild` "
            "makes it anew."
        )

    def _new_id(self, name: str, change: Change) -> str:
        """Another one for a table that is made anew: who streams it begins again."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.location(name)}?entry={change.entry}"))

    def _key(self, name: str, path: str) -> str:
        return self._destination.key(f"{name}/{path}")


@dataclass
class _Reading:
    """The replay of a table's log."""

    name: str
    version: int = -1
    entry: int = -1
    about: Action | None = None
    paths: set[str] = field(default_factory=set)

    def replay(self, version: int, actions: Iterable[Action]) -> None:
        self.version = version
        for one in actions:
            if "metaData" in one:
                self.about = one["metaData"]
            if "txn" in one and one["txn"]["appId"] == APP:
                self.entry = one["txn"]["version"]
            if "remove" in one:
                self.paths.discard(path_of(self.name, one["remove"]["path"]))
            if "add" in one:
                self.paths.add(path_of(self.name, one["add"]["path"]))

    def found(self) -> Found | None:
        if self.about is None:
            return None
        head = Head(
            version=self.version,
            entry=self.entry,
            columns=schema_id(self.about["schemaString"]),
            table_id=self.about["id"],
            created_ms=self.about["createdTime"] or 0,
        )
        return Found(head, frozenset(self.paths))
