"""The composition root: configuration in, Dagster definitions out. Loaded by Dagster, see ``workspace.yaml``."""

import dagster as dg

from vv_exports.config import load_config
from vv_exports.defs.build import build_definitions
from vv_exports.pipeline import Pipeline


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions of the configuration that ``load_config`` finds."""
    return build_definitions(Pipeline.from_config(load_config()))
