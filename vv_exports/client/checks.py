"""Checks through the client: what Dagster shows as asset checks, computed anew by the same code."""

from collections.abc import Sequence

from vv_exports.automations.verifications import LastVerification
from vv_exports.checks.index import checks_of_index
from vv_exports.checks.outcome import CheckOutcome
from vv_exports.checks.verification import verification
from vv_exports.client.deployment import Deployment, tells_of_the_instance
from vv_exports.defs.checks import evaluation
from vv_exports.defs.notifications import telling
from vv_exports.delivery.verify import Verification


@tells_of_the_instance
class Checks:
    """The checks of indexes and of what their automations delivered."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def list(self, index_id: str) -> Sequence[CheckOutcome]:
        """Every check of an index, as it stands now. Opens no file of results, and asks the source nothing.

        Raises NotFoundError for an index that is not configured.
        """
        pipeline = self._deployment.pipeline
        pipeline.config.index(index_id)
        automations = [one for one in pipeline.automations if one.index_id == index_id]
        return list(checks_of_index(pipeline.snapshots, index_id, automations, pipeline.clock()))

    def note(self, connector_id: str, found: Sequence[Verification]) -> None:
        """Keep what a full verification found of the collections of automations, for their check and in Dagster."""
        pipeline = self._deployment.pipeline
        by_place = {
            (one.destination.connector.connector_id, one.destination.subpath): one for one in pipeline.automations
        }
        for one in found:
            automation = by_place.get((connector_id, one.subpath))
            if automation is None:
                continue
            last = LastVerification.of(
                "verify", one.uri, pipeline.clock(), files=one.files, files_read=one.files, problems=one.problems
            )
            instance = self._deployment.instance_if_made
            with telling(pipeline, self._deployment.names, instance, automation):
                automation.verifications.note(last)
            if instance is not None:
                outcome = verification(automation.index_id, automation.name, one.uri, last)
                instance.report_runless_asset_event(evaluation(outcome))
