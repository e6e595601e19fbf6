"""The source of prompt runs through the client."""

from collections.abc import Iterator

from vv_exports.client.deployment import Deployment
from vv_exports.domain.findings import Finding


class Source:
    """Where prompt runs are read."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def check(self) -> Iterator[Finding]:
        """Try credentials, scopes and the configured indexes, reading only, step by step."""
        pipeline = self._deployment.pipeline
        return pipeline.source.check(list(pipeline.config.indexes))
