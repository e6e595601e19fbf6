"""Dagster's UI with its daemon, on the files of a deployment, wherever the package is installed."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vv_exports.client.deployment import Deployment
from vv_exports.config.loading import ENVIRONMENT_VARIABLE
from vv_exports.defs.instance import WORKSPACE, instance_home

_NO_NEWS = "ignore:Function `dev_command` is superseded"
"""What Dagster says of its own command; its new one needs a project of its own kind."""


@dataclass(frozen=True)
class UiProcess:
    """The process that is the UI and the daemon: what is executed, where, with which environment."""

    arguments: tuple[str, ...]
    folder: Path
    environ: Mapping[str, str]


def ui_process(deployment: Deployment, *, host: str, port: int, environ: Mapping[str, str]) -> UiProcess:
    """The UI of a deployment. Its Dagster instance is the one that commands use, and is made where there is none: with
    the limits of this package. Raises RequestError and InstanceError where it cannot be."""
    folder = deployment.folder.absolute()
    _ = deployment.instance
    home = instance_home(environ, folder).absolute()
    own = folder / WORKSPACE.name
    workspace = own if own.exists() else WORKSPACE
    config = deployment.pipeline.config.file
    return UiProcess(
        (sys.executable, "-W", _NO_NEWS, "-m", "dagster", "dev", "-w", str(workspace), "-h", host, "-p", str(port)),
        folder,  # where relative paths of its dagster.yaml start
        {
            **environ,
            "DAGSTER_HOME": str(home),
            **({} if config is None else {ENVIRONMENT_VARIABLE: str(config)}),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        },
    )


def become(process: UiProcess) -> None:
    """Become the process: whoever stops it stops the UI, and nothing is left behind."""
    os.chdir(process.folder)
    os.execve(process.arguments[0], list(process.arguments), dict(process.environ))  # noqa: S606 - no shell is wanted
