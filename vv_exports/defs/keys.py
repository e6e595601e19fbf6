"""How this project's things are called in Dagster.

What Dagster keeps a history by (asset keys, partitions, pools) depends on the id alone. Names of what can hold letters,
digits and ``_`` only (``Names``) depend on the configuration too: a hash follows where two of them would meet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from vv_exports.config import Config
from vv_exports.domain.names import dagster_key, dagster_name, hashed_name

DOWNLOAD = "(download)"
"""Stands in a launch for no connector."""
CONNECTOR = "vv_exports/connector"
"""The tag of a run that delivers, and what an asset that delivers to one connector says of itself: which one."""

_OF_AN_INDEX = ("", "__prompt_runs", "__prompt_run_export", "__index_export", "__discovery")
_OF_AN_AUTOMATION = ("", "__delivery", "__reconciliation")


def asset_key(index_id: str, *path: str) -> dg.AssetKey:
    """Key of an asset of an index. Its prefix is the index id, or a name for it where Dagster can't hold the id."""
    return dg.AssetKey([dagster_key(index_id), *path])


def reconciliation_key(index_id: str, automation: str) -> dg.AssetKey:
    """Key of the asset that puts an automation's collection right. The UI shows the last part alone in many places,
    where it must not look like the collection."""
    return asset_key(index_id, "reconciliations", f"{automation}__reconciliation")


def destination_pool(index_id: str, automation: str) -> str:
    """The pool of an automation's destination: one writer at a time."""
    return f"destination/{dagster_key(index_id)}/{dagster_key(automation)}"


@dataclass(frozen=True)
class Names:
    """Names of ops, sensors, schedules, groups and resources.

    Renaming a sensor loses its switch, so an entry that the configuration gets behind the others renames none of them:
    of two whose names would meet, the later one gets the hash. ``prefix`` is before those that are not of one index:
    in a project of somebody's own, which has resources and pools too.
    """

    indexes: Mapping[str, str]
    automations: Mapping[tuple[str, str], str]
    connectors: Mapping[str, str]
    prefix: str = ""

    @classmethod
    def of(cls, config: Config, prefix: str = "") -> "Names":
        """All names in a configuration."""
        taken: set[str] = set()
        indexes = {index_id: _claimed(taken, "", index_id, _OF_AN_INDEX) for index_id in config.indexes}
        automations = {
            (index_id, automation): _claimed(taken, f"{indexes[index_id]}__", automation, _OF_AN_AUTOMATION)
            for index_id, index in config.indexes.items()
            for automation in index.automations
        }
        ours = cls(indexes, automations, {}, prefix)
        resources = {ours.snapshots, ours.exports, "io_manager"}
        connectors = {name: _claimed(resources, prefix, name, ("",)) for name in config.connectors}
        return cls(indexes, automations, connectors, prefix)

    @property
    def snapshots(self) -> str:
        """The resource that keeps snapshots."""
        return f"{self.prefix or 'vv_'}snapshots"

    @property
    def exports(self) -> str:
        """The resource that makes exports on demand."""
        return f"{self.prefix or 'vv_'}exports_on_demand"

    @property
    def notifications(self) -> str:
        """The sensor that tells what is new of automations. Other sensors have the name of an index before theirs."""
        return f"{self.prefix}notifications"

    def source_pool(self, index_id: str) -> str:
        """The pool of what reads an index in bulk: the limit is in ``dagster.yaml``."""
        return f"{self.prefix}source/{dagster_key(index_id)}"

    def group(self, index_id: str) -> str:
        """The asset group of an index."""
        return self.indexes[index_id]

    def op(self, index_id: str, asset: str) -> str:
        """The operation of an asset that an index has one of."""
        return f"{self.indexes[index_id]}__{asset}"

    def collection_op(self, index_id: str, automation: str) -> str:
        """The operation of an automation's collection."""
        return self.automations[index_id, automation]

    def discovery_sensor(self, index_id: str) -> str:
        """Finds new and changed prompt runs of an index."""
        return f"{self.indexes[index_id]}__discovery"

    def delivery_sensor(self, index_id: str, automation: str) -> str:
        """Delivers what an automation's collection lacks."""
        return f"{self.automations[index_id, automation]}__delivery"

    def reconciliation(self, index_id: str, automation: str) -> str:
        """Puts an automation's collection right, by the clock where it has a schedule."""
        return f"{self.automations[index_id, automation]}__reconciliation"


def _claimed(taken: set[str], prefix: str, text: str, uses: tuple[str, ...]) -> str:
    """The name of ``text``, with a hash where it, or what is derived from it, is taken already. Takes all of these."""
    name = prefix + dagster_name(text)
    if not taken.isdisjoint(name + use for use in uses):
        name = prefix + hashed_name(text)
    taken.update(name + use for use in uses)
    return name
