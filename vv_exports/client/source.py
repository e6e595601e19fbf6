"""The source of prompt runs through the client."""

from collections.abc import Iterator

from vv_exports.client.deployment import Deployment
from vv_exports.domain.findings import Finding


class Source:
    """Where prompt runs are read."""

    def __init__(self, deployment: Deployment) -> None:
        self._pipeline = deployment.pipeline

    def check(self) -> Iterator[Finding]:
        """Try credentials, scopes and the configured indexes, reading only, step by step."""
        return self._pipeline.source.check(list(self._pipeline.config.indexes))
