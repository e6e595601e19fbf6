"""The schemas that the prompts of an index have had, so that nobody opens a snapshot for each run to know them.

Layout in the pipeline's storage: ``schemas/<index>/<first 32 hex of sha256>.json``, written once for each schema, and
``schemas/<index>/complete.json`` once those of all snapshots from before are there.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.domain.json_text import decode, encode_sorted
from vv_exports.domain.names import storage_segment
from vv_exports.domain.prompt_runs import Prompt
from vv_exports.domain.tables import TableName
from vv_exports.errors import DeliveredDataError


class KnownSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON Schema, and the table whose ``metadata`` it describes."""

    table: TableName
    json_schema: Any


class Schemas:
    """Of all indexes."""

    def __init__(self, storage: Connector) -> None:
        self._storage = storage
        self._noted: set[str] = set()

    def note(self, index_id: str, schemas: Iterable[KnownSchema]) -> None:
        """Note schemas. Costs a request for each that this process has not noted yet."""
        for schema in schemas:
            data = encode_sorted(msgspec.structs.asdict(schema))
            self._write(f"{_folder(index_id)}/{hashlib.sha256(data).hexdigest()[:32]}.json", data)

    def are_complete(self, index_id: str) -> bool:
        """Whether those of all snapshots of an index are noted: of those that version 0.1 took, none are."""
        done = _complete(index_id)
        return done in self._noted or self._storage.read(done) is not None

    def note_complete(self, index_id: str) -> None:
        """Note that they are."""
        self._write(_complete(index_id), b"{}")

    def read(self, index_id: str) -> list[KnownSchema]:
        """Every schema that is known of an index."""
        found = []
        for file in self._storage.files(_folder(index_id)):
            if file.is_link or file.key == _complete(index_id) or (data := self._storage.read(file.key)) is None:
                continue
            try:
                found.append(msgspec.convert(decode(data), KnownSchema))
            except ValueError as error:
                raise DeliveredDataError(
                    f"{self._storage.uri(file.key)} is no schema of the pipeline's: {error}. Move it away; with "
                    "complete.json beside it removed, the schemas are noted anew."
                ) from error
        return found

    def _write(self, key: str, data: bytes) -> None:
        if key not in self._noted:
            self._storage.create(key, data)
            self._noted.add(key)


def schemas_of(prompt: Prompt) -> list[KnownSchema]:
    """What the tables of a prompt's runs are typed with."""
    found = [KnownSchema(table="segments", json_schema=prompt.json_schema)]
    if prompt.video_level_schema is not None:
        found.append(KnownSchema(table="videos", json_schema=prompt.video_level_schema))
    return found


def _complete(index_id: str) -> str:
    return f"{_folder(index_id)}/complete.json"


def _folder(index_id: str) -> str:
    return f"schemas/{storage_segment(index_id)}"
