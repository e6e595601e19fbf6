"""A configuration with the indexes of the components of a Dagster project, for commands and Python."""

from pathlib import Path

import dagster as dg

from vv_exports.config import Config, dagster_project
from vv_exports.errors import ConfigurationError, VVExportsError
from vv_exports.index_list import load
from vv_exports.library.component import configuration, using


def load_with_components(path: Path | None = None) -> Config:
    """The configuration that ``load`` finds, and what components say where it names their project.

    Raises:
        ConfigurationError: with every problem of the file and of the components; or since the project does not load.
    """
    found = dagster_project(path)
    if found is None:
        return load(path)
    file, project = found
    try:
        components = using(file, dg.ComponentTree.for_project(project.resolve()))
    except Exception as error:
        # The project's modules are imported, and may fail in any way.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, VVExportsError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from error
        problem = f"dagster_project: {project} does not load, as `dg check defs` there tells: {error}"
        raise ConfigurationError(str(file), [problem]) from error
    return configuration(file, components) if components else load(path)
