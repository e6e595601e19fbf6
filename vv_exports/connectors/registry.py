"""Every provider of connectors, by the name that the configuration uses."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from vv_exports.connectors.base import Connector
from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import RequestError


def _imported(module: str, name: str, *, extra: str | None = None) -> Callable[..., Connector]:
    """A class that is imported when it is first needed: a store's SDK takes up to a second, and may not be there."""

    def make(connector_id: str, **options: Any) -> Connector:
        try:
            kind = getattr(importlib.import_module(f"vv_exports.connectors.{module}"), name)
        except ModuleNotFoundError as error:
            if extra is None:
                raise
            raise RequestError(
                f"the provider {extra} needs packages that are not installed ({error.name}); install them with: "
                f"pip install 'vv-exports[{extra}]' (in a clone: pip install '.[{extra}]')"
            ) from error
        return cast("Connector", kind(connector_id, **options))

    return make


CONNECTORS: Mapping[str, Callable[..., Connector]] = {
    "local": LocalConnector,
    "s3": _imported("s3", "S3Connector"),
    "gcs": _imported("gcs", "GcsConnector", extra="gcs"),
    "azure": _imported("azure", "AzureConnector", extra="azure"),
}
"""Provider -> class. Called with the connector's id and the options of its configuration by name."""
