"""What tells one source from another: where it is, and with whose key it is asked."""

import hashlib
import json
from collections.abc import Mapping

from vv_exports.config.models import SourceConfig, VideoVectorConfig


def identity_of(source: SourceConfig, environ: Mapping[str, str]) -> str:
    """Differs where a source is another one: another address, archive, or key, which may be another account's. The key
    cannot be told from it."""
    if isinstance(source, VideoVectorConfig):
        place = [source.kind, source.base_url, environ.get(source.api_key_env, "")]
    else:
        place = [source.kind, source.path]
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:16]
