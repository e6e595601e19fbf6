"""A whole deployment below one folder: configuration, archive, client."""

from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from vv_exports.automations.reconcile import Reconciliation, reconcile
from vv_exports.client import VVExports
from vv_exports.pipeline import Pipeline

CONFIG: dict[str, Any] = {
    "source": {"kind": "local_archive", "path": "archive"},
    "storage": "storage",
    "connectors": {
        "conn_export": {
            "provider": "local",
            "root": ".",
            "export_base_path": "deliveries",
            "scopes": ["export"],
        },
        "conn_import": {
            "provider": "local",
            "root": ".",
            "export_base_path": "incoming",
            "scopes": ["import"],
        },
    },
    "indexes": {
        "idx": {
            "automations": {
                "team": {
                    "destination_connector_id": "conn_export",
                    "destination_subpath": "exports/team",
                    "start": "beginning",
                },
                "held": {
                    "destination_connector_id": "conn_export",
                    "destination_subpath": "exports/held",
                    "format": "csv",
                    "partial": "hold",
                    "paused": True,
                    "start": "beginning",
                },
                "off": {
                    "destination_connector_id": "conn_export",
                    "destination_subpath": "exports/off",
                    "enabled": False,
                    "start": "beginning",
                },
            }
        }
    },
}


def write_config(folder: Path, config: dict[str, Any] = CONFIG) -> Path:
    """Write a configuration. Returns its path."""
    path = folder / "vv_exports.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
    return path


def client_of(folder: Path, config: dict[str, Any] = CONFIG) -> VVExports:
    """A client with a Dagster instance of its own, in memory."""
    return VVExports(write_config(folder, config), instance=dg.DagsterInstance.ephemeral())


def with_parts(pipeline: Pipeline, **parts: Any) -> None:
    """Put a pipeline together again, with another source or other connectors."""
    kept = {name: getattr(pipeline, name) for name in ("source", "storage", "connectors", "clock")}
    pipeline.__init__(pipeline.config, **{**kept, **parts})


def reconciled(client: VVExports, automation: str = "team") -> Reconciliation:
    """What a reconciliation does, without Dagster."""
    pipeline = client.pipeline
    listing = pipeline.indexes.listing("idx")
    return reconcile(pipeline.automations.get("idx", automation), pipeline.deliveries, listing, None)


def written_files(folder: Path) -> dict[str, bytes]:
    """Every file at the destinations."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("deliveries", "incoming", "other")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }
