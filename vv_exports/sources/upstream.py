"""What a platform has registered by itself, beside the prompt runs that it is the source of."""

from vv_exports.domain.prompt_runs import JsonObject
from vv_exports.errors import RequestError
from vv_exports.sources.base import Platform, Source


def upstream_connectors(source: Source, kind: str) -> list[JsonObject]:
    """The connectors that are registered at the platform. Raises RequestError for a kind of source that has none."""
    if not isinstance(source, Platform):
        raise RequestError(f"the source is a {kind}, which has no connectors of its own; leave out --upstream")
    return source.upstream_connectors()
