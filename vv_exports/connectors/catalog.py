"""Every provider of connectors, by the name that the configuration uses."""

from collections.abc import Callable, Mapping

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector

CONNECTORS: Mapping[str, Callable[..., Connector]] = {
    "local": LocalConnector,
}
"""Provider -> class. Called with the connector's id and the options of its configuration by name."""
