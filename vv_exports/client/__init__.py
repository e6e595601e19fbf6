"""The Python surface, with the names that VideoVector users know.

Every export and every delivery is a Dagster run in the instance that the UI shows. It runs in the calling process:
``create_*`` return when the export is over, completed or failed, and ``wait_for_completion`` then returns at once.
"""

from pathlib import Path

import dagster as dg

from vv_exports.client.automations import Automations
from vv_exports.client.deployment import Deployment
from vv_exports.client.exports import Exports
from vv_exports.client.prompt_runs import PromptRuns
from vv_exports.config import Config
from vv_exports.pipeline import Progress


class VVExports(Deployment):
    """Exports of one deployment: the same configuration and Dagster instance as the command line."""

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
