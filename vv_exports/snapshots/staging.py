"""What was read of a prompt run that is not read to its end yet, in the pipeline's storage.

Layout::

    snapshots/<index>/<run>/staging/<state of the run>/<name>
"""

import re
from pathlib import PurePosixPath

from vv_exports.connectors.base import Connector

STAGED = re.compile(r"[0-9a-f]{16}/[0-9a-f]{32}(\.[a-z]+)+")
"""A staged file, relative to the folder of all states. Sources name what they stage by a hash of 32 hex digits."""


class StoredStage:
    """The stage of one run in one state; ``folder`` is the run's. What was staged of other states is of no use."""

    def __init__(self, storage: Connector, folder: str, state: str) -> None:
        self._storage = storage
        self._all = f"{folder}/staging"
        self._own = f"{self._all}/{state[:16]}"
        keys = self._staged()
        mine = [key for key in keys if key.startswith(f"{self._own}/")]
        storage.delete(sorted(set(keys) - set(mine)))
        self._names = {PurePosixPath(key).name for key in mine}

    def names(self) -> set[str]:
        """What was there when this was made."""
        return set(self._names)

    def read(self, name: str) -> bytes | None:
        """A staged file; None where there is none, or where another process that read the same run has tidied up."""
        return self._storage.read(f"{self._own}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Stage a file. One that is there stays: it was read in the same state of the run. What a crash of the machine
        leaves of it may be damaged."""
        self._storage.create(f"{self._own}/{name}", data, durable=False)

    def clear(self) -> None:
        """Remove all that is staged of the run."""
        self._storage.delete(self._staged())

    def _staged(self) -> list[str]:
        top = f"{self._all}/"
        keys = [file.key for file in self._storage.files(self._all) if not file.is_link]
        return [key for key in keys if STAGED.fullmatch(key.removeprefix(top))]
