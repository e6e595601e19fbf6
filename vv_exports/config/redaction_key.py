"""Whether the key of redaction by hash is there, where the configuration needs it."""

from collections.abc import Mapping

from vv_exports.config.messages import automation_at, dotted
from vv_exports.config.models import Config
from vv_exports.domain.redaction_key import redaction_key
from vv_exports.errors import CredentialsError


def key_problems(config: Config, environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the key, told at each automation that needs it."""
    try:
        redaction_key(environment, config.redaction_key_env)
    except CredentialsError as error:
        return [
            f"{dotted((*automation_at(index_id, name), 'redact'))}: {error}"
            for index_id, index in config.indexes.items()
            for name, automation in index.automations.items()
            if automation.content.hashes
        ]
    return []
