"""Connectors through the client: which there are, whether they can be used, what is in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vv_exports.client.deployment import Deployment
from vv_exports.connectors.base import StoredFile
from vv_exports.connectors.checking import check_connector
from vv_exports.domain.findings import Finding
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.sources.upstream import upstream_connectors


@dataclass(frozen=True)
class ConnectorInfo:
    """A connector of the configuration. ``uri`` is its boundary: nothing outside it is listed, read or written."""

    connector_id: str
    provider: str
    scopes: tuple[str, ...]
    export_base_path: str
    uri: str


class Connectors:
    """The connectors of the configuration."""

    def __init__(self, deployment: Deployment) -> None:
        self._pipeline = deployment.pipeline

    def list(self) -> Sequence[ConnectorInfo]:
        """All connectors of the configuration."""
        return [self.retrieve(connector_id) for connector_id in self._pipeline.connectors]

    def upstream(self) -> Sequence[JsonObject]:
        """Those that are registered at VideoVector, with the SDK's field names. Raises RequestError where the source
        is another one."""
        return upstream_connectors(self._pipeline.source, self._pipeline.config.source.kind)

    def retrieve(self, connector_id: str) -> ConnectorInfo:
        """One connector. Raises NotFoundError."""
        connector = self._pipeline.connectors[connector_id]
        base = self._pipeline.config.connectors[connector_id].export_base_path
        return ConnectorInfo(connector_id, connector.provider, tuple(sorted(connector.scopes)), base, connector.uri(""))

    def test(self, connector_id: str) -> Iterator[Finding]:
        """Try what deliveries need, step by step, leaving nothing behind. Each step is tried when it is asked for."""
        return check_connector(self._pipeline.connectors[connector_id])

    def policies(self, connector_id: str) -> dict[str, JsonObject]:
        """The least that the store must allow, by what it is for; empty where the store has no policies."""
        return self._pipeline.connectors[connector_id].policies()

    def browse(self, connector_id: str, prefix: str = "") -> Sequence[StoredFile]:
        """The files below a folder of a connector."""
        return list(self._pipeline.connectors[connector_id].files(prefix.strip("/")))
