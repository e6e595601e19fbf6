"""What ``dg scaffold defs vv_exports.IndexExports`` writes."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from vv_exports.config import Config, IndexScaffold, load_config
from vv_exports.config.loading import FILE_NAME
from vv_exports.errors import ConfigurationError

_YAML = """\
type: {type_name}

# Source, storage and connectors are in {file}.
attributes:
  index_id: {index_id}
"""
_AUTOMATION = """\
  automations:
    {automation}:
      destination_connector_id: {connector}
      destination_subpath: {subpath}
      # All finished prompt runs. `now`: those that finish from now on.
      start: beginning
"""
_IN_THE_FILE = f"  # Its automations are in {FILE_NAME} too.\n"
_PYTHON = """\
import dagster as dg

from vv_exports import IndexExports


@dg.component_instance
def load(context: dg.ComponentLoadContext) -> IndexExports:
    # Source, storage and connectors are in {file}.
    return IndexExports({arguments})
"""


class IndexExportsScaffolder(dg.Scaffolder[IndexScaffold]):
    """Writes a component of one index. One that the configuration file has already only names it."""

    @classmethod
    def get_scaffold_params(cls) -> type[IndexScaffold]:
        """The options of the command."""
        return IndexScaffold

    def scaffold(self, request: dg.ScaffoldRequest[IndexScaffold]) -> None:
        """Write ``defs.yaml``, or ``component.py``."""
        asked = request.params
        index_id = asked.index_id or request.target_path.name
        config = _shared(request.project_root)
        automation: dict[str, Any] | None = None
        if config is None or index_id not in config.indexes:
            automation = {
                "destination_connector_id": asked.connector or _first_connector(config),
                "destination_subpath": asked.subpath or f"exports/{index_id}/{asked.automation}",
                "start": "beginning",
            }
        if request.scaffold_format == "python":
            arguments = f"index_id={index_id!r}"
            if automation is not None:
                arguments += f", automations={{{asked.automation!r}: {automation!r}}}"
            text = _PYTHON.format(file=FILE_NAME, arguments=arguments)
            (request.target_path / "component.py").write_text(text, encoding="utf-8")
            return
        text = _YAML.format(type_name=request.type_name, file=FILE_NAME, index_id=_scalar(index_id))
        if automation is None:
            text += _IN_THE_FILE
        else:
            text += _AUTOMATION.format(
                automation=_scalar(asked.automation),
                connector=_scalar(automation["destination_connector_id"]),
                subpath=_scalar(automation["destination_subpath"]),
            )
        if request.append:
            with request.target_path.open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
        else:
            (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


def _shared(project: Path | None) -> Config | None:
    """The configuration of the project, where there is one that is right: loading it tells what is wrong."""
    file = (project or Path.cwd()) / FILE_NAME
    try:
        return load_config(file) if file.exists() else None
    except ConfigurationError:
        return None


def _first_connector(config: Config | None) -> str:
    connectors = {} if config is None else config.connectors
    return next((name for name, connector in connectors.items() if "export" in connector.scopes), "conn_export")


def _scalar(text: str) -> str:
    """Text as YAML. JSON is YAML; what is plain there needs no quotes."""
    plain = text.replace("_", "").replace("-", "").replace("/", "").replace(".", "")
    return (
        text if plain.isascii() and plain.isalnum() and plain[0].isalpha() and text[0].isalpha() else json.dumps(text)
    )
