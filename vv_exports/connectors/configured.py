"""The connectors that a configuration names: opened, and found by id."""

from collections.abc import Mapping
from typing import Any

from vv_exports.connectors.base import Connector
from vv_exports.connectors.catalog import CONNECTORS
from vv_exports.domain.selection import missing_message
from vv_exports.errors import ConfigurationError, DestinationError, NotFoundError, RequestError


class Connectors(dict[str, Connector]):
    """By id. Asking for one that is not there raises NotFoundError."""

    def __missing__(self, connector_id: str) -> Connector:
        raise NotFoundError(missing_message("connector", [connector_id], self, "the configuration"))

    def for_export(self, connector_id: str) -> Connector:
        """One that exports may go to. Raises NotFoundError, or DestinationError where its scopes forbid it."""
        connector = self[connector_id]
        if "export" not in connector.scopes:
            raise DestinationError(
                f"connector {connector_id!r} has the scopes {sorted(connector.scopes)} and not 'export', so nothing "
                "may be delivered to it; add the scope in the configuration, or choose another connector"
            )
        return connector


def open_connectors(configured: Mapping[str, Mapping[str, Any]]) -> dict[str, Connector]:
    """The connector at each place of the configuration, ``connectors.<id>`` or ``storage``, without touching its store.

    Raises ConfigurationError with every place whose provider's packages are not installed.
    """
    opened, problems = {}, []
    for place, fields in configured.items():
        options = {name: value for name, value in fields.items() if name != "provider"}
        try:
            opened[place] = CONNECTORS[fields["provider"]](place.removeprefix("connectors."), **options)
        except RequestError as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise ConfigurationError("configuration", problems)
    return opened
