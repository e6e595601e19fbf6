"""What a configuration names outside, opened and not touched: the source, the pipeline's storage, the connectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from vv_exports.config import Config
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import open_connectors
from vv_exports.connectors.local import LocalConnector
from vv_exports.errors import ConfigurationError
from vv_exports.sources.base import Source
from vv_exports.sources.registry import SOURCES


@dataclass(frozen=True)
class Parts:
    """Of one deployment."""

    source: Source
    storage: Connector
    connectors: dict[str, Connector]


def _missing_packages(config: Config) -> Iterator[str]:
    """Which tables need a library that is not installed. It is looked for, and not imported: that takes a second."""
    for index_id, index in config.indexes.items():
        for name, automation in index.automations.items():
            if automation.registered.iceberg is not None and find_spec("pyiceberg") is None:
                yield (
                    f"indexes.{index_id}.automations.{name}.tables.iceberg: needs packages that are not installed "
                    "(pyiceberg); install them with: pip install 'vv-exports[iceberg]' (in a clone: pip install "
                    "'.[iceberg]')"
                )


def open_parts(config: Config) -> Parts:
    """Raises ConfigurationError with every place whose provider's packages are not installed."""
    kept = config.storage
    configured = {f"connectors.{connector_id}": one for connector_id, one in config.connectors.items()}
    if not isinstance(kept, str):
        configured["storage"] = kept
    problems = [*_missing_packages(config)]
    try:
        opened = open_connectors({place: one.model_dump() for place, one in configured.items()})
    except ConfigurationError as error:
        raise ConfigurationError(error.where, [*error.problems, *problems]) from error
    if problems:
        raise ConfigurationError("configuration", problems)
    return Parts(
        source=SOURCES[config.source.kind](**config.source.model_dump(exclude={"kind"})),
        storage=LocalConnector("storage", kept, make_root=True) if isinstance(kept, str) else opened["storage"],
        connectors={key: opened[f"connectors.{key}"] for key in config.connectors},
    )
