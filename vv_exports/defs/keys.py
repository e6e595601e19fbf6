"""How this project's things are called in Dagster: asset keys, groups, resources."""

import dagster as dg

from vv_exports.domain.names import dagster_name

PIPELINE = "vv_pipeline"
SNAPSHOTS = "vv_snapshots"
EXPORTS = "vv_exports_on_demand"
SOURCE_POOL = "source"
"""What reads the source in bulk: the limit is in ``dagster.yaml``."""


def asset_key(index_id: str, *path: str) -> dg.AssetKey:
    """Key of an asset of an index. Its prefix is the index id, or a name for it where Dagster can't hold the id."""
    return dg.AssetKey([dagster_name(index_id), *path])


def group_of(index_id: str) -> str:
    """The asset group of an index."""
    return dagster_name(index_id)


def connector_key(connector_id: str) -> str:
    """Resource key of a connector's IO manager: its id, or a name for it where Dagster can't hold the id."""
    name = dagster_name(connector_id)
    return f"connector__{name}" if name in {PIPELINE, SNAPSHOTS, EXPORTS, "io_manager"} else name


def destination_pool(index_id: str, automation: str) -> str:
    """The pool of an automation's destination: one writer at a time."""
    return f"destination/{dagster_name(index_id)}/{dagster_name(automation)}"


def discovery_sensor_name(index_id: str) -> str:
    """Finds new and changed prompt runs of an index."""
    return f"{dagster_name(index_id)}__discovery"


def delivery_sensor_name(index_id: str, automation: str) -> str:
    """Delivers what an automation's collection lacks. Renaming a sensor loses its switch."""
    return f"{dagster_name(index_id)}__{dagster_name(automation)}__delivery"


def reconciliation_name(index_id: str, automation: str) -> str:
    """Puts an automation's collection right by the clock."""
    return f"{dagster_name(index_id)}__{dagster_name(automation)}__reconciliation"
