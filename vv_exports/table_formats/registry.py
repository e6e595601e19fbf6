"""Every open table format, by its name in the configuration."""

from collections.abc import Callable, Mapping

from vv_exports.config import TablesConfig
from vv_exports.delivery.destination import Destination
from vv_exports.table_formats.base import FormatName, RegisteredTables
from vv_exports.table_formats.delta import DeltaTables

OpenTables = Callable[[Destination], RegisteredTables]
"""Gives the tables of a destination. Raises our errors where what they need is not there."""


def table_formats_of(chosen: TablesConfig) -> Mapping[FormatName, OpenTables]:
    """Those that are chosen."""
    found: dict[FormatName, OpenTables] = {}
    if chosen.delta:
        found["delta"] = DeltaTables
    return found
