"""The Python surface, with the names that VideoVector users know. What the command line can do, this can.

Every export and every delivery is a Dagster run in the instance that the UI shows. It runs in the calling process:
``create_*`` return when the export is over, completed or failed, and ``wait_for_completion`` then returns at once.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from vv_exports.automations.places import remove_left_places
from vv_exports.client.automations import Automations
from vv_exports.client.checks import Checks
from vv_exports.client.connectors import Connectors
from vv_exports.client.deployment import Deployment
from vv_exports.client.erasure import Erasure
from vv_exports.client.exports import Exports
from vv_exports.client.indexes import Indexes
from vv_exports.client.metrics import Metrics
from vv_exports.client.notifications import Notifications
from vv_exports.client.prompt_runs import PromptRuns
from vv_exports.client.provenance import Provenance
from vv_exports.client.repairs import Repairs
from vv_exports.client.source import Source
from vv_exports.client.status import CollectionStatus, Status
from vv_exports.client.tables import Tables
from vv_exports.client.ui import become, ui_process
from vv_exports.config import Config
from vv_exports.defs.webserver import LOCATION, reload_location
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.left_places import Removal
from vv_exports.delivery.vacuum import Vacuum, vacuum
from vv_exports.delivery.verify import Verification
from vv_exports.domain.destinations import check_subpath
from vv_exports.domain.progress import Progress
from vv_exports.errors import VVExportsError
from vv_exports.library.project import load_with_components as load_with_components

_LOG = logging.getLogger(__name__)


class VVExports(Deployment):
    """Exports of one deployment: the same configuration and Dagster instance as the command line.

    ``config`` is a loaded configuration or the path of one, by default the one that the command line finds. The Dagster
    instance is ``instance``, or the one of DAGSTER_HOME, or beside the file; in the working directory where a loaded
    configuration is of no file. Raises ConfigurationError with what is wrong in the file.
    """

    def __init__(
        self,
        config: Config | Path | None = None,
        *,
        instance: dg.DagsterInstance | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(config, instance=instance, progress=progress)
        self.exports = Exports(self)
        self.automations = Automations(self)
        self.prompt_runs = PromptRuns(self)
        self.connectors = Connectors(self)
        self.indexes = Indexes(self)
        self.source = Source(self)
        self.erasure = Erasure(self)
        self.checks = Checks(self)
        self.repairs = Repairs(self)
        self.provenance = Provenance(self)
        self.tables = Tables(self)
        self.notifications = Notifications(self)
        self.metrics = Metrics(self)

    def reload(self, url: str = "http://127.0.0.1:3000", location: str = LOCATION) -> None:
        """Have the Dagster whose webserver is at an address take over the configuration as it is now. Returns when it
        has. Raises TransientError where nobody answers, RequestError where it is no webserver that has this code
        location, and RunFailedError with what keeps the configuration from being loaded."""
        reload_location(url, location)

    def ui(self, *, host: str = "127.0.0.1", port: int = 3000) -> None:
        """Become Dagster's UI with its daemon, on this configuration and its instance. Does not return: the process is
        replaced. Raises RequestError and InstanceError where the instance cannot be opened."""
        become(ui_process(self, host=host, port=port, environ=os.environ))

    def status(self, index_id: str | None = None, automation: str | None = None) -> Sequence[CollectionStatus]:
        """Of each collection, those of an index, or one: whether it is complete and the newest, as far as the source
        and its destination can be asked. Raises NotFoundError for what is not configured."""
        return Status(self, self.automations).list(index_id, automation)

    def verify(self, connector_id: str, subpath: str | None = None) -> Sequence[Verification]:
        """Re-read every committed file at a destination, or at all of a connector's, and compare it with the log.

        Raises NotFoundError for a connector or destination that is not there. What is wrong at one is in its
        ``problems``; of an automation's collection, its check ``verification`` says so from then on.
        """
        found = self.repairs.verified_at(connector_id, subpath)
        try:
            self.checks.note(connector_id, found)
        except VVExportsError as error:  # who verifies wants to know of the destination, whatever else is wrong
            _LOG.warning("the verification is not kept for the check of that name: %s", error)
        return found

    def vacuum_abandoned(
        self, connector_id: str, subpath: str | None = None, *, dry_run: bool = False
    ) -> Sequence[Removal]:
        """Remove the collections of a connector that their automations have left for another place, or the one at a
        subpath. Raises NotFoundError, and DestinationError for a subpath that nobody left, or that is in use."""
        connector = self.pipeline.connectors.for_export(connector_id)
        if subpath is not None:
            subpath = check_subpath(subpath, boundary=connector.uri(""))
        in_use = [automation.destination for automation in self.pipeline.automations]
        return remove_left_places(self.pipeline.storage, connector, in_use, subpath=subpath, dry_run=dry_run)

    def vacuum(self, connector_id: str, subpath: str, *, dry_run: bool = False, without_log: bool = False) -> Vacuum:
        """Remove superseded and stray files of one destination, and nothing else. Raises NotFoundError,
        DestinationError, and TransientError where deliveries kept coming first."""
        connector = self.pipeline.connectors.for_export(connector_id)
        subpath = check_subpath(subpath, boundary=connector.uri(""))
        return vacuum(Destination(connector, subpath), self.pipeline.clock, dry_run=dry_run, without_log=without_log)
