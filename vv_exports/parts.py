"""What a configuration names outside, opened and not touched: the source, the pipeline's storage, the connectors, the
spool."""

from dataclasses import dataclass
from pathlib import Path

from vv_exports.config import Config
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import open_connectors
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.spool import Spool, use_spool
from vv_exports.sources.base import Source
from vv_exports.sources.registry import SOURCES


@dataclass(frozen=True)
class Parts:
    """Of one deployment."""

    source: Source
    storage: Connector
    connectors: dict[str, Connector]


def open_parts(config: Config) -> Parts:
    """Raises ConfigurationError with every place whose provider's packages are not installed. This process's temporary
    files are made in the configuration's spool from then on."""
    kept = config.storage
    configured = {f"connectors.{connector_id}": one for connector_id, one in config.connectors.items()}
    if not isinstance(kept, str):
        configured["storage"] = kept
    folder = config.spool.folder
    use_spool(Spool(None if folder is None else Path(folder.removeprefix("file://")), config.spool.max_bytes))
    opened = open_connectors({place: one.model_dump() for place, one in configured.items()})
    return Parts(
        source=SOURCES[config.source.kind](**config.source.model_dump(exclude={"kind"})),
        storage=LocalConnector("storage", kept, make_root=True) if isinstance(kept, str) else opened["storage"],
        connectors={key: opened[f"connectors.{key}"] for key in config.connectors},
    )
