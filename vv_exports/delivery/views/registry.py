"""The databases that views of a collection can be made for, by name."""

from collections.abc import Collection
from typing import Literal, Protocol, get_args

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.views.athena import athena_views
from vv_exports.delivery.views.bigquery import bigquery_views
from vv_exports.delivery.views.collection import VIEWS, View, ViewedCollection, viewed_collection
from vv_exports.delivery.views.duckdb import duckdb_views
from vv_exports.delivery.views.snowflake import snowflake_views
from vv_exports.delivery.views.spark import spark_views

Engine = Literal["duckdb", "athena", "bigquery", "snowflake", "spark"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


class _Script(Protocol):
    """Raises RequestError for what the engine cannot read."""

    def __call__(self, collection: ViewedCollection, name: str, views: Collection[View]) -> str: ...


_SCRIPTS: dict[Engine, _Script] = {
    "duckdb": duckdb_views,
    "athena": athena_views,
    "bigquery": bigquery_views,
    "snowflake": snowflake_views,
    "spark": spark_views,
}


def views_script(
    destination: Destination,
    name: str,
    engine: Engine = "duckdb",
    views: Collection[View] = VIEWS,
    *,
    location: str | None = None,
) -> str:
    """A script that makes views of what a destination holds now, in the schemas ``<name>_current`` and
    ``<name>_latest``. ``location`` is the address of a copy that the engine reads in its place.

    Raises NotFoundError where nothing was delivered, and RequestError for what the engine cannot read.
    """
    collection = viewed_collection(destination, views, location=location, with_columns=engine != "duckdb")
    return _SCRIPTS[engine](collection, name, views)
