"""Connectors in the configuration, and the pipeline's own storage, which is one too or a path.

To add a provider: a class, its line in ``PROVIDERS``, its member in ``ConnectorConfig`` and in ``StorageConfig``.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from vv_exports.config.fields import (
    Model,
    Place,
    absolute,
    base_path,
    bucket_name,
    container_name,
    gcs_bucket_name,
    null_is_root,
    of_this_machine,
    storage_account_name,
    store_url,
    told_apart_by,
    variable_name,
)
from vv_exports.domain.endpoints import same_endpoint


def real_folder(place: str) -> str:
    """A path with links followed; a URL as it is."""
    path = place.removeprefix("file://")
    return path if "://" in path else Path(os.path.realpath(path)).as_posix()


class LocalConnectorConfig(Model):
    """A folder of this machine, or one that is mounted."""

    provider: Literal["local"] = Field(description="Storage is a folder.")
    root: Annotated[Place, AfterValidator(of_this_machine)] = Field(
        description="The folder; a relative one is relative to this file's folder."
    )
    export_base_path: Annotated[str, BeforeValidator(null_is_root), AfterValidator(base_path)] = Field(
        default="", description="Boundary inside the root that no export leaves. Empty: the root itself."
    )
    scopes: frozenset[Literal["import", "export"]] = Field(
        default=frozenset({"import"}),
        description="What the connector may be used for. A destination needs the export scope.",
    )

    @property
    def boundary(self) -> str:
        """The folder or URL that holds everything this connector may write."""
        return f"{self.root.rstrip('/')}/{self.export_base_path}" if self.export_base_path else self.root

    def real_boundary(self) -> str:
        """The boundary with links followed, so that two ways to one folder are equal."""
        return real_folder(self.boundary)


class _StoreConfig(Model):
    """What buckets and containers have in common."""

    export_base_path: Annotated[str, BeforeValidator(null_is_root), AfterValidator(base_path)] = Field(
        default="", description="Boundary inside the bucket that no export leaves. Empty: the whole bucket."
    )
    scopes: frozenset[Literal["import", "export"]] = Field(
        default=frozenset({"import"}),
        description="What the connector may be used for. A destination needs the export scope.",
    )
    endpoint_url: Annotated[str, AfterValidator(store_url)] | None = Field(
        default=None, description="The address of the store, where that is not the provider's own."
    )

    @property
    def place(self) -> str:
        """The URL of the bucket."""
        raise NotImplementedError

    @property
    def boundary(self) -> str:
        """The URL that holds everything this connector may write."""
        return f"{self.place}/{self.export_base_path}" if self.export_base_path else self.place

    def real_boundary(self) -> str:
        """The boundary, told apart from buckets of the same name in other stores, however their address is spelled."""
        return f"{self._endpoint()} {self.boundary}".strip()

    def _endpoint(self) -> str:
        raise NotImplementedError


class S3ConnectorConfig(_StoreConfig):
    """A bucket of Amazon S3, or of a store that speaks its protocol."""

    provider: Literal["s3"] = Field(description="Storage is a bucket of S3.")
    bucket: Annotated[str, AfterValidator(bucket_name)] = Field(description="The bucket's name, without s3://.")
    region: str | None = Field(
        default=None, description="The bucket's region. Default: where the AWS SDK looks for it."
    )
    access_key_id_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds the access key id."
    )
    secret_access_key_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds the secret access key."
    )
    session_token_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds a session token."
    )
    sse: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="Server-side encryption to ask for. Default: the bucket's own."
    )
    kms_key_id: str | None = Field(default=None, description="The KMS key, with `sse: aws:kms`.")
    path_style: StrictBool = Field(
        default=False,
        description="Whether the bucket is always named in the path, as many stores other than Amazon's want it. "
        "Otherwise the AWS SDK decides.",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> "S3ConnectorConfig":
        if (self.access_key_id_env is None) != (self.secret_access_key_env is None):
            raise ValueError("access_key_id_env and secret_access_key_env belong together: name both, or neither")
        if self.session_token_env is not None and self.access_key_id_env is None:
            raise ValueError("session_token_env needs access_key_id_env and secret_access_key_env")
        if self.kms_key_id is not None and self.sse != "aws:kms":
            raise ValueError("kms_key_id needs `sse: aws:kms`")
        return self

    @property
    def place(self) -> str:
        """The bucket's URL."""
        return f"s3://{self.bucket}"

    def _endpoint(self) -> str:
        return same_endpoint(self.provider, self.endpoint_url, self.bucket)


class GcsConnectorConfig(_StoreConfig):
    """A bucket of Google Cloud Storage."""

    provider: Literal["gcs"] = Field(description="Storage is a bucket of Google Cloud Storage.")
    bucket: Annotated[str, AfterValidator(gcs_bucket_name)] = Field(description="The bucket's name, without gs://.")
    credentials_file_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None,
        description="The name of the environment variable that holds the path of a service account's key file. "
        "Default: where Google's libraries look for credentials.",
    )
    anonymous: StrictBool = Field(
        default=False, description="Whether to ask without credentials, as emulators want it."
    )

    @model_validator(mode="after")
    def _belong_together(self) -> "GcsConnectorConfig":
        if self.anonymous and self.credentials_file_env is not None:
            raise ValueError("anonymous and credentials_file_env exclude each other: remove one")
        return self

    @property
    def place(self) -> str:
        """The bucket's URL."""
        return f"gs://{self.bucket}"

    def _endpoint(self) -> str:
        return same_endpoint(self.provider, self.endpoint_url, self.bucket)


class AzureConnectorConfig(_StoreConfig):
    """A container of Azure Blob Storage."""

    provider: Literal["azure"] = Field(description="Storage is a container of Azure Blob Storage.")
    storage_account: Annotated[str, AfterValidator(storage_account_name)] = Field(
        description="The storage account's name."
    )
    container: Annotated[str, AfterValidator(container_name)] = Field(description="The container's name.")
    account_key_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds the account's key."
    )
    connection_string_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None, description="The name of the environment variable that holds a connection string."
    )
    sas_token_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        default=None,
        description="The name of the environment variable that holds a SAS token. Without any of the three: where "
        "Azure's libraries look for credentials.",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> "AzureConnectorConfig":
        if sum(bool(name) for name in (self.account_key_env, self.connection_string_env, self.sas_token_env)) > 1:
            raise ValueError("account_key_env, connection_string_env and sas_token_env exclude each other: keep one")
        return self

    @property
    def place(self) -> str:
        """The container's URL."""
        return f"abfss://{self.container}@{self.storage_account}.dfs.core.windows.net"

    def _endpoint(self) -> str:
        return same_endpoint(self.provider, self.endpoint_url, self.container, self.storage_account)


PROVIDERS: dict[str, type[BaseModel]] = {
    "local": LocalConnectorConfig,
    "s3": S3ConnectorConfig,
    "gcs": GcsConnectorConfig,
    "azure": AzureConnectorConfig,
}


ConnectorConfig = Annotated[
    Annotated[LocalConnectorConfig, Tag("local")]
    | Annotated[S3ConnectorConfig, Tag("s3")]
    | Annotated[GcsConnectorConfig, Tag("gcs")]
    | Annotated[AzureConnectorConfig, Tag("azure")],
    told_apart_by("provider"),
]


_AZURE_URL = re.compile(r"([^@/]+)@([^./]+)\.(?:dfs|blob)\.core\.windows\.net")


def _storage_place(value: str, info: ValidationInfo) -> "str | ConnectorConfig":
    """A path, or the connector that a URL stands for."""
    place = absolute(value, info)
    scheme, separator, rest = place.partition("://")
    if not separator or scheme == "file":
        return place
    bucket, _, base = rest.partition("/")
    found = _AZURE_URL.fullmatch(bucket)
    options: dict[str, str]
    if scheme == "s3":
        options = {"provider": "s3", "bucket": bucket}
    elif scheme in {"gs", "gcs"}:
        options = {"provider": "gcs", "bucket": bucket}
    elif scheme in {"abfs", "abfss", "az"} and found:
        options = {"provider": "azure", "container": found[1], "storage_account": found[2]}
    else:
        raise ValueError(
            "must be a path, or s3://bucket/…, gs://bucket/…, abfss://container@account.dfs.core.windows.net/…; or a "
            "mapping with the fields of a connector"
        )
    try:
        connector: ConnectorConfig = PROVIDERS[options["provider"]].model_validate(  # type: ignore[assignment]
            {**options, "export_base_path": base.rstrip("/")}
        )
    except ValidationError as error:
        problems = (str(one.get("ctx", {}).get("error", one["msg"])) for one in error.errors())
        raise ValueError("; ".join(problems)) from error
    return connector


def _storage_tag(data: Any) -> str | None:
    """Everything but a mapping is taken for a place: that it should be text is then said in the usual way."""
    if not isinstance(data, dict):
        return "place" if not isinstance(data, BaseModel) else str(getattr(data, "provider", None))
    provider = data.get("provider")
    return provider if isinstance(provider, str) else None


StorageConfig = Annotated[
    Annotated[Annotated[str, Field(min_length=1), AfterValidator(_storage_place)], Tag("place")]
    | Annotated[LocalConnectorConfig, Tag("local")]
    | Annotated[S3ConnectorConfig, Tag("s3")]
    | Annotated[GcsConnectorConfig, Tag("gcs")]
    | Annotated[AzureConnectorConfig, Tag("azure")],
    Discriminator(_storage_tag),
]
