"""Files of Iceberg's metadata, read and written by the connector of the collection.

pyiceberg takes a class by its name and gives it text alone. So the destination of a table is registered here under a
number, and no credential is ever among the properties of a catalog or a table.
"""

import secrets
from io import BytesIO
from typing import Any
from weakref import WeakValueDictionary

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

from vv_exports.connectors.spool import spool_folder
from vv_exports.delivery.destination import Destination
from vv_exports.errors import DeliveredDataError

IMPLEMENTATION = "vv_exports.table_formats.iceberg_io.ConnectorIO"
_NUMBER = "vv_exports.destination"
_DESTINATIONS: "WeakValueDictionary[str, Destination]" = WeakValueDictionary()


def io_properties(destination: Destination) -> dict[str, str]:
    """What a catalog is told so that it takes this destination's connector, as long as the destination is there."""
    number = secrets.token_hex(16)
    _DESTINATIONS[number] = destination
    return {"py-io-impl": IMPLEMENTATION, _NUMBER: number}


class ConnectorIO(FileIO):
    """Files below the destination of a number."""

    def __init__(self, properties: Any) -> None:
        super().__init__(properties)
        self._destination = _DESTINATIONS[properties[_NUMBER]]

    def new_input(self, location: str) -> InputFile:
        """A file to read."""
        return _Input(location, self._destination)

    def new_output(self, location: str) -> OutputFile:
        """A file to write, in one piece."""
        return _Output(location, self._destination)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file; one that is gone is no error."""
        place = location if isinstance(location, str) else location.location
        self._destination.connector.delete([_key(self._destination, place)])


class _Input(InputFile):
    def __init__(self, location: str, destination: Destination) -> None:
        super().__init__(location)
        self._destination = destination

    def __len__(self) -> int:
        return len(self._read())

    def exists(self) -> bool:
        return self._destination.connector.read(_key(self._destination, self.location)) is not None

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 - it always is
        return BytesIO(self._read())

    def _read(self) -> bytes:
        data = self._destination.connector.read(_key(self._destination, self.location))
        if data is None:
            raise FileNotFoundError(self.location)
        return data


class _Output(OutputFile):
    def __init__(self, location: str, destination: Destination) -> None:
        super().__init__(location)
        self._destination = destination

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> _Input:
        return _Input(self.location, self._destination)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002 - names carry a random part
        return _Stream(self.location, self._destination)


class _Stream(BytesIO):
    """Uploads what was written when it is closed, and nothing where an error closes it."""

    def __init__(self, location: str, destination: Destination) -> None:
        super().__init__()
        self._location = location
        self._destination = destination

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            super().close()
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        data = self.getvalue()
        super().close()
        with spool_folder() as spool:
            path = spool / "metadata"
            path.write_bytes(data)
            self._destination.connector.put(path, _key(self._destination, self._location))


def _key(destination: Destination, location: str) -> str:
    """The connector's key of an address that it gave."""
    top = destination.connector.uri("").rstrip("/") + "/"
    if not location.startswith(top):
        raise DeliveredDataError(f"{location} is not in {top}: a table of this collection is registered elsewhere")
    return location.removeprefix(top)
