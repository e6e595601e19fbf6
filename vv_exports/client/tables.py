"""Tables of open table formats through the client: how far they are, and making them anew."""

from collections.abc import Sequence

from vv_exports.automations.automation import Automation
from vv_exports.client.deployment import Deployment
from vv_exports.delivery.ownership import check_log
from vv_exports.errors import RequestError
from vv_exports.printable import one_line
from vv_exports.table_formats.collection import TableState


class Tables:
    """The Delta and Iceberg tables of collections."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self, index_id: str, automation: str) -> Sequence[TableState]:
        """Each table of an automation's collection: where it is, and which entry of the delivery log it shows. Raises
        NotFoundError, and RequestError for an automation without such tables."""
        found = self._automation(index_id, automation)
        return found.tables.states(found.destination)

    def rebuild(self, index_id: str, automation: str, *, dry_run: bool = False) -> Sequence[TableState]:
        """Drop all tables of an automation's collection, and make them of what its log holds now. No data file is
        written or removed. Earlier versions of the tables are gone after that. A dry run returns the tables as they
        are. Raises what ``list`` raises, and DeliveredDataError where the log cannot be read."""
        found = self._automation(index_id, automation)
        state = found.collection()
        check_log(found.destination, state)
        if dry_run:
            return found.tables.states(found.destination)
        found.tables.rebuild(found.destination, state, self._deployment.pipeline.clock())
        return found.tables.states(found.destination)

    def drop(self, index_id: str, automation: str, *, dry_run: bool = False) -> Sequence[str]:
        """Remove the tables of an automation's collection, and no data file. Delta tables also where the configuration
        does not choose them any more; those that it chooses are made again by the next delivery. Returns where they
        were, or in a dry run are. Raises NotFoundError."""
        found = self._deployment.pipeline.automations.get(index_id, automation)
        there = found.tables.there(found.destination)
        if not dry_run:
            found.tables.drop(found.destination)
        return there

    def _automation(self, index_id: str, automation: str) -> Automation:
        found = self._deployment.pipeline.automations.get(index_id, automation)
        if not found.tables.formats:
            raise RequestError(
                f"automation {automation!r} of index {one_line(index_id)} has no tables beside its files; choose some: "
                "`tables: {delta: true}`"
            )
        return found
