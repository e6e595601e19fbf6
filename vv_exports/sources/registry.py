"""Every kind of source, by its name in the configuration (``source.kind``)."""

from collections.abc import Callable
from typing import Any

from vv_exports.sources.base import Source
from vv_exports.sources.local_archive import LocalArchive


def _videovector(**account: Any) -> Source:
    # The SDK takes a third of a second to import, and most of it is of no use to those who read an archive.
    from vv_exports.sources.videovector import VideoVector  # noqa: PLC0415
    from vv_exports.sources.videovector_api import VideoVectorApi  # noqa: PLC0415

    return VideoVector(VideoVectorApi(**account))


SOURCES: dict[str, Callable[..., Source]] = {"local_archive": LocalArchive, "videovector": _videovector}
"""Each takes the other fields of ``source`` in the configuration, by their names."""

OF_A_SERVER = frozenset({"videovector"})
"""Those that ask a server, and may share its budget of requests with other processes: they take ``shares`` too."""
