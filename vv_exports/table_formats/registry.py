"""Every open table format, by its name in the configuration."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from vv_exports.config import IcebergConfig, TablesConfig
from vv_exports.delivery.destination import Destination
from vv_exports.table_formats.base import FormatName, RegisteredTables
from vv_exports.table_formats.delta import DeltaTables

OpenTables = Callable[[Destination], RegisteredTables]
"""Gives the tables of a destination. Raises our errors where what they need is not there."""


WITHOUT_CONFIGURATION: Mapping[FormatName, OpenTables] = {"delta": DeltaTables}
"""Those whose tables are found where nothing is configured, any more."""


def table_formats_of(chosen: TablesConfig) -> Mapping[FormatName, OpenTables]:
    """Those that are chosen."""
    found: dict[FormatName, OpenTables] = {}
    if chosen.delta:
        found["delta"] = DeltaTables
    if chosen.iceberg is not None:
        found["iceberg"] = partial(_iceberg, chosen.iceberg)
    return found


def _iceberg(config: IcebergConfig, destination: Destination) -> RegisteredTables:
    """Its library is imported when it is first needed: that takes most of a second, and it may not be there."""
    module = importlib.import_module("vv_exports.table_formats.iceberg")
    return cast("RegisteredTables", module.IcebergTables(destination, config))
