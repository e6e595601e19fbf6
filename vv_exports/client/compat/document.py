"""A download of JSON files as one JSON document, which is what the SDK downloads.

The platform does not publish the shape of its document. Ours is an object with the export's id, what it is of, and a
list for each table; an element of a list is the result document as every JSON file of a delivery has it.
"""

import zipfile
from collections.abc import Iterator
from io import BufferedIOBase
from itertools import chain

import msgspec

from vv_exports.domain.destinations import PAYLOAD
from vv_exports.domain.exports import Export
from vv_exports.domain.tables import DELIVERED_TABLES
from vv_exports.formats.json import length_of_rows, rows_between_brackets

_BLOCK = 1 << 20


class Document:
    """What is downloaded of an artifact: one document of its JSON files, or, where it has other files, itself.

    ``bytes`` is known without reading the rows. The artifact stays open as long as the document is read.
    """

    def __init__(self, artifact: BufferedIOBase, export: Export) -> None:
        self._artifact = artifact
        self._archive = zipfile.ZipFile(artifact)
        self._pieces = _pieces(self._archive.infolist(), export)
        if self._pieces is None:
            self.bytes = artifact.seek(0, 2)
        else:
            lengths = (len(one) if isinstance(one, bytes) else length_of_rows(one.file_size) for one in self._pieces)
            self.bytes = sum(lengths)

    def blocks(self) -> Iterator[bytes]:
        """The bytes, in blocks of any size. Raises DeliveredDataError, and what zipfile raises, for damage."""
        if self._pieces is None:
            self._artifact.seek(0)
            while block := self._artifact.read(_BLOCK):
                yield block
            return
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                with self._archive.open(piece) as rows:
                    yield from rows_between_brackets(rows, piece.file_size)

    def chunks(self, size: int) -> Iterator[bytes]:
        """The bytes, in chunks of one size; the last may be smaller."""
        waiting = bytearray()
        for block in self.blocks():
            waiting += block
            whole = len(waiting) - len(waiting) % size
            for start in range(0, whole, size):
                yield bytes(waiting[start : start + size])
            del waiting[:whole]
        if waiting:
            yield bytes(waiting)


def _pieces(infos: list[zipfile.ZipInfo], export: Export) -> list[bytes | zipfile.ZipInfo] | None:
    """What the document is put together of; None where a file is not JSON as such."""
    files: dict[str, list[zipfile.ZipInfo]] = {table: [] for table in DELIVERED_TABLES}
    for info in infos:
        path = info.filename.partition("/")[2].removeprefix(f"{PAYLOAD}/" if export.bag else "")
        table = path.partition("/")[0].partition(".")[0]  # segments.v2 has segments
        if table in files:
            files[table].append(info)
    if export.format != "json" or not all(one.filename.endswith(".json") for one in chain(*files.values())):
        return None
    head = {
        "export_id": export.export_id,
        "export_type": export.export_type,
        "target_id": export.target_id,
        "index_id": export.index_id,
        "prompt_run_ids": export.prompt_run_ids,
    }
    pieces: list[bytes | zipfile.ZipInfo] = [msgspec.json.encode(head).removesuffix(b"}")]
    for table, of_table in files.items():
        separator = f',\n"{table}":[\n'.encode()
        for info in of_table:
            if length_of_rows(info.file_size):
                pieces += [separator, info]
                separator = b",\n"
        pieces += [b"\n]" if separator == b",\n" else separator + b"]"]
    return [*pieces, b"}\n"]
