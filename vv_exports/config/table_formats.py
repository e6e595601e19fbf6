"""The tables of an automation: which are delivered, and the open table formats in which they are registered."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, StrictBool, Tag, model_validator

from vv_exports.config.content import ChosenTables
from vv_exports.config.fields import Model, store_url, told_apart_by, variable_name
from vv_exports.domain.tables import TABLES


class SqlCatalogConfig(Model):
    """An Iceberg catalog in a database."""

    type: Literal["sql"] = Field(description="The catalog is two tables of a database.")
    uri_env: Annotated[str, AfterValidator(variable_name)] = Field(
        description="The name of the environment variable that holds the database's URL, such as "
        "postgresql+psycopg2://user:password@host/database or sqlite:////srv/catalog.db."
    )


class RestCatalogConfig(Model):
    """An Iceberg catalog that is a service."""

    type: Literal["rest"] = Field(description="The catalog speaks Iceberg's REST protocol.")
    uri: Annotated[str, AfterValidator(store_url)] = Field(description="The catalog's address.")
    warehouse: str | None = Field(default=None, description="The warehouse, where the catalog has several.")
    token_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds a bearer token."
    )
    credential_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds client_id:client_secret."
    )

    @model_validator(mode="after")
    def _one_secret(self) -> "RestCatalogConfig":
        if self.token_env is not None and self.credential_env is not None:
            raise ValueError("token_env and credential_env exclude each other: keep one")
        return self


CATALOGS: dict[str, type[BaseModel]] = {"sql": SqlCatalogConfig, "rest": RestCatalogConfig}

CatalogConfig = Annotated[
    Annotated[SqlCatalogConfig, Tag("sql")] | Annotated[RestCatalogConfig, Tag("rest")], told_apart_by("type")
]


def _namespace(value: str) -> str:
    if not re.fullmatch(r"\w{1,100}(\.\w{1,100}){0,9}", value, re.ASCII):
        raise ValueError("must be of letters, digits and _, with dots between levels, 1 to 100 characters each")
    return value


class IcebergConfig(Model):
    """Where the Iceberg tables of a collection are registered."""

    catalog: CatalogConfig = Field(description="The catalog that says which state of a table is the present one.")
    namespace: Annotated[str, AfterValidator(_namespace)] | None = Field(
        default=None,
        description="The namespace of the tables, of letters, digits and _, with dots between levels. Default: made of "
        "the index and the automation.",
    )


class TablesConfig(Model):
    """Which tables are delivered, and as what they are registered besides."""

    include: ChosenTables = Field(
        default=TABLES,
        description="The tables that are delivered.",
        json_schema_extra={"minItems": 1, "uniqueItems": True},
    )
    delta: StrictBool = Field(
        default=False, description="Whether each table of each prompt is a Delta table, too: of the same files."
    )
    iceberg: IcebergConfig | None = Field(
        default=None, description="The catalog in which each table of each prompt is an Iceberg table, too."
    )

    @property
    def names(self) -> tuple[Literal["delta", "iceberg"], ...]:
        """The formats that are chosen."""
        return (*(("delta",) if self.delta else ()), *(("iceberg",) if self.iceberg is not None else ()))


def _listed_or_mapped(data: Any) -> str:
    return "formats" if isinstance(data, dict | TablesConfig) else "list"


TablesChoice = Annotated[
    Annotated[ChosenTables, Field(json_schema_extra={"minItems": 1, "uniqueItems": True}), Tag("list")]
    | Annotated[TablesConfig, Tag("formats")],
    Discriminator(_listed_or_mapped),
]
