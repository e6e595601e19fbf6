"""Every kind of source, by its name in the configuration (``source.kind``)."""

from collections.abc import Callable

from vv_exports.sources.base import Source
from vv_exports.sources.local_archive import LocalArchive

SOURCES: dict[str, Callable[[str], Source]] = {"local_archive": LocalArchive}
"""Each takes where the source is: ``source.path``, a folder or any fsspec URL."""
