"""A folder as a store without put-if-absent: a name that is taken is written over, as far as the store is asked."""

import time
from collections.abc import Callable
from pathlib import Path

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector


def _nothing(key: str) -> None:
    del key


class CarelessFolder(LocalConnector):
    """Several processes see the same files. ``before`` and ``after`` are called with the key around each write of a
    creation, which the creation itself surrounds with a look, like those of object stores that do not decide."""

    def __init__(
        self,
        root: Path,
        storage: Path,
        *,
        before: Callable[[str], None] = _nothing,
        after: Callable[[str], None] = _nothing,
        slowness: float = 0,
    ) -> None:
        super().__init__("conn", root, make_root=True)
        self.pipeline_storage: Connector | None = LocalConnector("storage", storage, make_root=True)
        self._before = before
        self._after = after
        self._slowness = slowness

    def decides_among_writers(self) -> bool:
        return False

    def create(self, key: str, data: bytes, *, durable: bool = True) -> bool:
        if self.read(key) is not None:
            return False
        self._before(key)
        time.sleep(self._slowness if "/log/" in key else 0)
        self.write(key, data)
        self._after(key)
        return self.read(key) == data

    def write(self, key: str, data: bytes) -> None:
        """Write what is there or not."""
        path = Path(self.uri(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
