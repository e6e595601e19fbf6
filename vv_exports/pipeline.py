"""The pipeline of one deployment, put together from its configuration. It has no rules: those are in the folders.

It knows nothing of Dagster.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from vv_exports.automations.registry import Automations
from vv_exports.config import Config
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import Connectors
from vv_exports.delivery.deliveries import Deliveries
from vv_exports.domain.progress import Progress
from vv_exports.domain.redaction_key import redaction_key
from vv_exports.exports.on_demand import Exports
from vv_exports.index_list import IndexList
from vv_exports.notifications.notifier import Notifications
from vv_exports.parts import open_parts
from vv_exports.reading_processes import ReadingProcesses
from vv_exports.snapshots.taking import Snapshots
from vv_exports.sources.base import Source
from vv_exports.sources.identity import identity_of
from vv_exports.sources.indexes import Indexes


class Pipeline:
    """Built once from a configuration, without touching storage or network.

    ``index_list`` says which indexes there are, ``indexes`` which prompt runs, ``snapshots`` are the pipeline's copies
    of those, ``deliveries`` bring them to destinations, for ``automations`` and for ``exports`` on demand, and
    ``notifications`` tell of it.
    """

    def __init__(
        self,
        config: Config,
        *,
        source: Source,
        storage: Connector,
        connectors: dict[str, Connector],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.source = source
        self.storage = storage
        self.connectors = Connectors(connectors)
        self.clock = clock
        progress = progress or Progress()
        for connector in (storage, *connectors.values()):
            connector.remember_in(storage)
        key = partial(redaction_key, os.environ, config.redaction_key_env)
        delivered = [index_id for index_id, index in config.indexes.items() if index.automations]
        self.snapshots = Snapshots(
            source,
            storage,
            clock=self.now,
            progress=progress.snapshot,
            work=progress.work,
            apart=ReadingProcesses(config),
        )
        self.indexes = Indexes(source, config.indexes, delivered, self.snapshots.is_erased)
        self.index_list = IndexList(storage)
        self.deliveries = Deliveries(self.snapshots, clock=self.now, progress=progress.file, work=progress.work)
        self.automations = Automations(config, self.connectors, self.snapshots, key)
        self.exports = Exports(
            config,
            storage,
            self.connectors,
            listing=self.indexes.listing,
            deliver=self.deliveries.deliver,
            schemas=self.snapshots.schemas,
            check_not_erased=self.snapshots.store.check_not_erased,
            redaction_key=key,
            clock=self.now,
        )
        self.notifications = Notifications(config.notifications, storage, self.now)

    @classmethod
    def from_config(cls, config: Config, progress: Progress | None = None) -> "Pipeline":
        """The pipeline that a configuration describes."""
        parts = open_parts(config)
        return cls(config, source=parts.source, storage=parts.storage, connectors=parts.connectors, progress=progress)

    def source_identity(self) -> str:
        """What tells the source from others, as it is configured now."""
        return identity_of(self.config.source, os.environ)

    def now(self) -> datetime:
        """The moment, by the pipeline's clock."""
        return self.clock()
