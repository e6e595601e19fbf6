"""Iceberg tables of a collection. Their metadata is below ``_vv/iceberg/`` there, and the catalog says which of it is
the present state.

Files are registered by what the delivery log knows of them: none is opened. No bounds of columns are kept, so no value
of a result stands in metadata, where an erasure would have to find it.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from urllib.parse import urlsplit

import sqlalchemy.exc
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    CommitFailedException,
    CommitStateUnknownException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    OAuthError,
    RESTError,
    TableAlreadyExistsError,
    UnauthorizedError,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table, Transaction
from pyiceberg.typedef import Record

from vv_exports.config import IcebergConfig
from vv_exports.delivery.destination import Destination
from vv_exports.domain.destinations import ICEBERG_FOLDER
from vv_exports.errors import (
    CredentialsError,
    DeliveredDataError,
    OutcomeUnknownError,
    RequestError,
    TableMovedOnError,
    TransientError,
    VVExportsError,
)
from vv_exports.printable import one_line
from vv_exports.snapshots.columns import Object
from vv_exports.table_formats.base import Added, Change, FormatName, Found, Head
from vv_exports.table_formats.delta_log import milliseconds
from vv_exports.table_formats.delta_schema import delta_schema, schema_id
from vv_exports.table_formats.iceberg_internals import set_schema
from vv_exports.table_formats.iceberg_io import io_properties
from vv_exports.table_formats.iceberg_schema import iceberg_schema, next_schema

_NAME = "vv_exports.table"
_OWNER = "vv_exports.collection"
_ENTRY = "vv_exports.entry"
_COLUMNS = "vv_exports.columns"
_CREATED = "vv_exports.created-ms"
_MAPPING = "schema.name-mapping.default"
_PROPERTIES: Mapping[str, str] = {
    # Whoever loses a race looks at what the winner did: to try the same again could add a file twice.
    "commit.retry.num-retries": "0",
    # A commit reads all manifests' names, and pyiceberg the whole of the metadata: both are kept short.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.metadata.metrics.default": "none",
}
_SAID = 300
_MOST_SNAPSHOTS = 200
_VERSIONS_TO_A_LOOK = 100


class IcebergTables:
    """See ``RegisteredTables``. ``owner`` names the collection: of it the namespace is made, where none is chosen."""

    name: FormatName = "iceberg"

    def __init__(
        self, destination: Destination, config: IcebergConfig, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._destination = destination
        self._config = config
        self._environ = environ

    @property
    def namespace(self) -> str:
        """That of the tables."""
        return self._owner if self._config.namespace is None else self._config.namespace

    @property
    def _owner(self) -> str:
        owner = self._destination.claimant
        return _identifier(f"{owner.index_id}__{owner.automation}")

    def names(self) -> Collection[str]:
        """Those of the namespace that are of this collection."""
        found: set[str] = set()
        with self._translated():
            try:
                listed = self._catalog.list_tables(self.namespace)
            except NoSuchNamespaceError:
                return found
            for identifier in listed:
                table = self._catalog.load_table(identifier)
                if table.location().startswith(self._destination.uri_of(ICEBERG_FOLDER) + "/"):
                    found.add(table.properties.get(_NAME, ""))
        return found - {""}

    def location(self, name: str) -> str:
        """The table's name in the catalog."""
        folder, _, prompt = name.partition("/prompt_id=")
        return f"{self.namespace}.{_identifier(f'{folder}__{prompt}')}"

    def columns_id(self, columns: Object) -> str:
        """The same as for Delta: the types are one to one."""
        return schema_id(delta_schema(columns))

    def read(self, name: str) -> Found | None:
        """By the present metadata, and the manifests that it names."""
        with self._translated():
            table = self._load(name)
            if table is None:
                return None
            paths = frozenset(self._path(one.file_path) for one in _data_files(table))
            return Found(_head(table), paths)

    def commit(self, name: str, head: Head | None, change: Change) -> Head:
        """One transaction of the catalog: the columns, the files that come, and those that go."""
        with self._translated():
            table = self._load(name)
            if head is None and table is None:
                table = self._create(name, change)
            if table is None:
                raise TableMovedOnError(f"the Iceberg table {self.location(name)} is not there any more")
            there = _head(table)
            is_where_it_was = head is not None and there.version == head.version
            if there.entry == change.entry and not is_where_it_was:
                return there  # the same change, made before
            if head is not None and not is_where_it_was:
                raise TableMovedOnError(f"the Iceberg table {self.location(name)} has version {there.version} already")
            with table.transaction() as transaction:
                if change.columns is not None and self.columns_id(change.columns) != there.columns:
                    self._set_columns(table, transaction, change.columns)
                self._set_files(table, transaction, change)
            return _head(table)

    def checkpoint_is_due(self, before: Head | None, head: Head) -> bool:
        """Metadata needs no checkpoint, but it names each snapshot: of very many, the oldest are forgotten."""
        return before is not None and head.version // _VERSIONS_TO_A_LOOK > before.version // _VERSIONS_TO_A_LOOK

    def keep_checkpoint(self, name: str, head: Head, files: Iterable[Added], columns: Object) -> None:
        """Forget all snapshots but the last ones."""
        del head, files, columns
        with self._translated():
            if (table := self._load(name)) is None:
                return
            snapshots = sorted(table.snapshots(), key=lambda one: one.sequence_number or 0)
            if over := [one.snapshot_id for one in snapshots[:-_MOST_SNAPSHOTS]]:
                table.maintenance.expire_snapshots().by_ids(over).commit()

    def drop(self, name: str) -> None:
        """Take it out of the catalog, and remove its metadata."""
        with self._translated(), suppress(NoSuchTableError, NoSuchNamespaceError):
            self._catalog.drop_table(self.location(name))
        there = self._destination.files(f"{ICEBERG_FOLDER}/{name}")
        self._destination.connector.delete([self._destination.key(path) for path in there])

    def close(self) -> None:
        """Let go of the catalog."""
        if "_catalog" in vars(self):
            self._catalog.close()

    @cached_property
    def _catalog(self) -> Catalog:
        catalog, properties = self._config.catalog, io_properties(self._destination)
        properties["warehouse"] = self._destination.uri_of(ICEBERG_FOLDER)
        if catalog.type == "sql":
            return load_catalog("vv_exports", type="sql", uri=self._secret(catalog.uri_env), **properties)
        if catalog.warehouse is not None:
            properties["warehouse"] = catalog.warehouse
        if catalog.token_env is not None:
            properties["token"] = self._secret(catalog.token_env)
        if catalog.credential_env is not None:
            properties["credential"] = self._secret(catalog.credential_env)
        return load_catalog("vv_exports", type="rest", uri=catalog.uri, **properties)

    def _secret(self, variable: str) -> str:
        value = self._environ.get(variable)
        if not value:
            raise CredentialsError(
                f"the environment variable {variable} is not set, and the Iceberg catalog of {self._destination.uri} "
                "needs it"
            )
        return value

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the catalog as ours, without the secrets that they may name."""
        what = f"the Iceberg catalog of {self._destination.uri}"
        try:
            yield
        except VVExportsError:
            raise
        except (CommitFailedException, TableAlreadyExistsError) as error:
            raise TableMovedOnError(f"{what}: somebody else was faster: {self._said(error)}") from None
        except CommitStateUnknownException:
            raise OutcomeUnknownError(f"{what} does not say whether a change landed; it is looked at again") from None
        except (UnauthorizedError, OAuthError, AuthorizationExpiredError):
            raise CredentialsError(f"{what} does not accept the credentials of its configuration") from None
        except NotInstalledError:
            raise RequestError(
                f"{what} needs packages that are not installed: pip install 'vv-exports[iceberg]', and the driver of "
                "its database where that is not SQLite"
            ) from None
        except RESTError as error:
            raise TransientError(f"{what} answers: {self._said(error)}") from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise TransientError(f"{what}: its database cannot be used: {self._said(error)}") from None
        except Exception as error:  # noqa: BLE001 - what else pyiceberg raises says that it cannot use what it finds
            raise DeliveredDataError(
                f"{what}: a table cannot be used: {self._said(error)}. `vv-exports tables rebuild` makes it anew."
            ) from None

    def _said(self, error: Exception) -> str:
        """What an error says, in a line."""
        secrets = [self._environ.get(variable, "") for variable in self._variables]
        secrets += [urlsplit(secret).password or "" for secret in secrets if "://" in secret]
        text = f"{type(error).__name__}: {one_line(str(error))[:_SAID]}"
        for secret in filter(None, secrets):
            text = text.replace(secret, "(not shown)")
        return text

    @property
    def _variables(self) -> list[str]:
        """Those that hold secrets."""
        catalog = self._config.catalog
        named = [catalog.uri_env] if catalog.type == "sql" else [catalog.token_env, catalog.credential_env]
        return [variable for variable in named if variable is not None]

    def _load(self, name: str) -> Table | None:
        try:
            table = self._catalog.load_table(self.location(name))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        if table.location().rstrip("/") == self._location_of(name):
            return table
        if table.properties.get(_OWNER) != self._owner:
            raise RequestError(
                f"the Iceberg table {self.location(name)} is another collection's, at {one_line(table.location())}: "
                "choose another `namespace` for one of them"
            )
        # The collection has moved. What is at the place before goes with what else was left there.
        self._catalog.drop_table(self.location(name))
        return None

    def _location_of(self, name: str) -> str:
        """Where its metadata is."""
        return self._destination.uri_of(f"{ICEBERG_FOLDER}/{name}")

    def _create(self, name: str, change: Change) -> Table:
        if change.columns is None:
            raise TableMovedOnError(f"the Iceberg table {self.location(name)} is not there any more")
        levels = self.namespace.split(".")
        for depth in range(1, len(levels) + 1):
            try:
                self._catalog.create_namespace(tuple(levels[:depth]))
            except NamespaceAlreadyExistsError:
                continue
        created = str(milliseconds(change.committed_at))
        return self._catalog.create_table(
            self.location(name),
            schema=iceberg_schema(change.columns),
            location=self._location_of(name),
            properties={**_PROPERTIES, _NAME: name, _OWNER: self._owner, _CREATED: created},
        )

    def _set_columns(self, table: Table, transaction: Transaction, columns: Object) -> None:
        if (wanted := next_schema(columns, table.metadata)) is not None:
            set_schema(transaction, wanted)
        schema = transaction.table_metadata.schema()
        transaction.set_properties(
            {_COLUMNS: self.columns_id(columns), _MAPPING: schema.name_mapping.model_dump_json()}
        )

    def _set_files(self, table: Table, transaction: Transaction, change: Change) -> None:
        if not (change.added or change.removed):
            return
        update = transaction.update_snapshot(snapshot_properties={_ENTRY: str(change.entry)})
        with update.overwrite() if change.removed else update.merge_append() as producer:
            for one in change.added:
                producer.append_data_file(self._data_file(table, one))
            removed = set(change.removed)
            if removed:
                for there in _data_files(table):
                    if self._path(there.file_path) in removed:
                        producer.delete_data_file(there)

    def _data_file(self, table: Table, one: Added) -> DataFile:
        found = DataFile.from_args(
            _table_format_version=table.metadata.format_version,
            content=DataFileContent.DATA,
            file_path=self._destination.uri_of(one.file.path),
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=one.file.rows,
            file_size_in_bytes=one.file.bytes,
        )
        found.spec_id = table.spec().spec_id
        return found

    def _path(self, location: str) -> str:
        return location.removeprefix(self._destination.uri_of("")).lstrip("/")


def _head(table: Table) -> Head:
    snapshot = table.current_snapshot()
    said = snapshot.summary.additional_properties.get(_ENTRY) if snapshot is not None and snapshot.summary else None
    return Head(
        version=table.last_sequence_number,
        entry=-1 if said is None else int(said),
        columns=table.properties.get(_COLUMNS, ""),
        table_id=str(table.metadata.table_uuid),
        created_ms=int(table.properties.get(_CREATED, "0")),
    )


def _data_files(table: Table) -> Iterator[DataFile]:
    snapshot = table.current_snapshot()
    for manifest in [] if snapshot is None else snapshot.manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            yield entry.data_file


def _identifier(text: str) -> str:
    """A name that every engine takes, and that no two ids share."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", text)[:100]
    return plain if plain == text else f"{plain}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
