"""Connectors through the client: which there are, whether they can be used, what is in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from vv_exports.automations.places import Place
from vv_exports.client.changes import ConfigurationChange, automation_notes, change_configuration, changes_at
from vv_exports.client.deployment import Deployment
from vv_exports.connectors.base import StoredFile
from vv_exports.connectors.check import check_connector
from vv_exports.domain.findings import Finding
from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.pipeline import Pipeline
from vv_exports.sources.upstream import upstream_connectors


@dataclass(frozen=True)
class ConnectorInfo:
    """A connector of the configuration. ``uri`` is its boundary: nothing outside it is listed, read or written."""

    connector_id: str
    provider: str
    scopes: tuple[str, ...]
    export_base_path: str
    uri: str


class ConnectorFields(TypedDict, total=False):
    """The fields of a connector of any provider, as the configuration has them."""

    provider: str
    root: str | None
    export_base_path: str | None
    scopes: Sequence[str] | None
    bucket: str | None
    region: str | None
    endpoint_url: str | None
    access_key_id_env: str | None
    secret_access_key_env: str | None
    session_token_env: str | None
    sse: str | None
    kms_key_id: str | None
    path_style: bool | None
    credentials_file_env: str | None
    anonymous: bool | None
    storage_account: str | None
    container: str | None
    account_key_env: str | None
    connection_string_env: str | None
    sas_token_env: str | None


class Connectors:
    """The connectors of the configuration."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self) -> Sequence[ConnectorInfo]:
        """All connectors of the configuration."""
        return [self.retrieve(connector_id) for connector_id in self._deployment.pipeline.connectors]

    def upstream(self) -> Sequence[JsonObject]:
        """Those that are registered at VideoVector, with the SDK's field names. Raises RequestError where the source
        is another one."""
        return upstream_connectors(self._deployment.pipeline.source, self._deployment.pipeline.config.source.kind)

    def retrieve(self, connector_id: str) -> ConnectorInfo:
        """One connector. Raises NotFoundError."""
        connector = self._deployment.pipeline.connectors[connector_id]
        base = self._deployment.pipeline.config.connectors[connector_id].export_base_path
        return ConnectorInfo(connector_id, connector.provider, tuple(sorted(connector.scopes)), base, connector.uri(""))

    def test(self, connector_id: str) -> Iterator[Finding]:
        """Try what deliveries need, step by step, leaving nothing behind. Each step is tried when it is asked for."""
        return check_connector(self._deployment.pipeline.connectors[connector_id])

    def policies(self, connector_id: str) -> dict[str, JsonObject]:
        """The least that the store must allow, by what it is for; empty where the store has no policies."""
        return self._deployment.pipeline.connectors[connector_id].policies()

    def browse(self, connector_id: str, prefix: str = "") -> Sequence[StoredFile]:
        """The files below a folder of a connector."""
        return list(self._deployment.pipeline.connectors[connector_id].files(prefix.strip("/")))

    def set(
        self, connector_id: str, *, dry_run: bool = False, **fields: Unpack[ConnectorFields]
    ) -> ConfigurationChange:
        """Add a connector to the configuration's file, or change fields of one. None stands for a field's default; a
        new one has the scope export where none is named. Raises ConfigurationError with every problem that this would
        make, and then writes nothing."""
        if connector_id not in self._deployment.pipeline.config.connectors:
            fields.setdefault("scopes", ["export"])
        changes = changes_at(("connectors", connector_id), fields, ConnectorFields.__annotations__)
        return change_configuration(self._deployment, changes, _notes, dry_run=dry_run)


def _notes(before: Pipeline, after: Pipeline) -> Iterator[str]:
    """What follows for automations that deliver elsewhere now."""
    earlier = {one.id: one for one in before.automations}
    for one in after.automations:
        if not Place.of(one.destination).is_at(Place.of(earlier[one.id].destination)):
            yield from automation_notes(earlier[one.id], one)
