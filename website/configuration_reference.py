"""The page of the configuration's fields, of its models."""

from schema_reference import definition

from vv_exports.config import config_schema

_TITLES = {
    "LocalArchiveConfig": "Source local_archive",
    "VideoVectorConfig": "Source videovector",
    "LocalConnectorConfig": "Connector local",
    "S3ConnectorConfig": "Connector s3",
    "GcsConnectorConfig": "Connector gcs",
    "AzureConnectorConfig": "Connector azure",
    "SpoolConfig": "Spool",
    "IndexConfig": "Index",
    "IndexTemplate": "Template of indexes",
    "DatasetConfig": "Dataset",
    "AutomationConfig": "Automation",
    "ScheduleConfig": "Schedule",
    "FieldsConfig": "Fields",
    "FormatConfig": "Format",
    "TablesConfig": "Tables",
    "IcebergConfig": "Iceberg",
    "SqlCatalogConfig": "Catalog sql",
    "RestCatalogConfig": "Catalog rest",
    "VideoTimingConfig": "Timing of a video",
    "NotificationsConfig": "Notifications",
    "WebhookConfig": "Target webhook",
    "AppriseConfig": "Target apprise",
}
"""The headings of definitions, in their order on the page; one that is not named here comes after them."""

_ABOUT = """Made of the models that check the file. [Configuration](../configuration.md) has an example and the rules;
`vv-exports config schema` prints the JSON Schema."""


def page() -> str:
    """The page."""
    schema = config_schema()
    titles = {name: _TITLES.get(name, name) for name in (*_TITLES, *schema["$defs"])}
    parts = [
        "# Configuration, field by field",
        _ABOUT,
        "## The file",
        definition(schema, titles),
    ]
    for name, title in titles.items():
        parts += [f"## {title}", definition(schema["$defs"][name], titles)]
    return "\n\n".join(parts) + "\n"
