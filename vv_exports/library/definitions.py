"""All indexes of a configuration as definitions that merge with those of somebody's own project."""

from pathlib import Path

import dagster as dg

from vv_exports.config import Config
from vv_exports.defs.build import IndexDefinitions
from vv_exports.defs.keys import Names
from vv_exports.index_list import load
from vv_exports.pipeline import Pipeline

PREFIX = "vv_exports__"
"""Before the names of resources and pools, so that they are not those of the project."""


def build_definitions(config: Config | Path | str | None = None, *, prefix: str = PREFIX) -> dg.Definitions:
    """Assets, sensors, schedules and resources of every index of a configuration, to be merged with other definitions.

    They have no executor: that is the project's. Nothing touches storage or network; but where the configuration has
    templates of indexes, one document of its storage is read.

    Args:
        config: a loaded configuration, or the path of one; by default the one that the command line finds.
        prefix: before the names of resources and of the source's pool. A second configuration in the same project
            needs another one.

    Raises:
        ConfigurationError: with every problem of the file.
    """
    loaded = config if isinstance(config, Config) else load(None if config is None else Path(config))
    return IndexDefinitions(Pipeline.from_config(loaded), Names.of(loaded, prefix), loaded.indexes).all()
