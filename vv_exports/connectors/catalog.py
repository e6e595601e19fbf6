"""Every provider of connectors, by the name that the configuration uses."""

from collections.abc import Callable, Mapping

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.s3 import S3Connector

CONNECTORS: Mapping[str, Callable[..., Connector]] = {
    "local": LocalConnector,
    "s3": S3Connector,
}
"""Provider -> class. Called with the connector's id and the options of its configuration by name."""
