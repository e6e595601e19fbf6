"""What a configuration names outside, opened and not touched: the source, the pipeline's storage, the connectors, the
spool."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from vv_exports.config import Config
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import open_connectors
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.spool import Spool, use_spool
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.errors import ConfigurationError
from vv_exports.sources.base import Source
from vv_exports.sources.identity import identity_of
from vv_exports.sources.registry import OF_A_SERVER, SOURCES
from vv_exports.sources.shares import SharedShares, Shares, SharesPlace


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
    """Raises ConfigurationError with every place whose provider's packages are not installed. This process's temporary
    files are made in the configuration's spool from then on."""
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
    folder = config.spool.folder
    use_spool(Spool(None if folder is None else Path(folder.removeprefix("file://")), config.spool.max_bytes))
    storage = LocalConnector("storage", kept, make_root=True) if isinstance(kept, str) else opened["storage"]
    return Parts(
        source=open_source(config, storage),
        storage=storage,
        connectors={key: opened[f"connectors.{key}"] for key in config.connectors},
    )


def open_source(config: Config, storage: Connector | None = None) -> Source:
    """The source. All processes that give the same storage share the requests that a server gets; without one, this
    process keeps to the limits by itself, and writes nothing."""
    kind, fields = config.source.kind, config.source.model_dump(exclude={"kind", "processes"})
    if storage is not None and kind in OF_A_SERVER:
        fields["shares"] = SharesPlace(storage.address, partial(_shares, config, storage))
    return SOURCES[kind](**fields)


def requests_asked(config: Config, storage: Connector) -> Shares | None:
    """What the processes of the deployment have asked of the server, and who asks now; None where the source is no
    server, or they cannot agree on it."""
    document = _shares(config, storage) if config.source.kind in OF_A_SERVER else None
    return None if document is None else document.read()


def _shares(config: Config, storage: Connector) -> SharedShares | None:
    if not storage.decides_among_writers():
        return None
    return VersionedDocument(storage, f"requests/{identity_of(config.source, os.environ)}", Shares, Shares)
