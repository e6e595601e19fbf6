"""Where people look at a folder of a storage in their browser."""

from pathlib import Path
from urllib.parse import quote

from vv_exports.connectors.base import Connector


def console_page(connector: Connector, key: str) -> str | None:
    """The page of a folder in its provider's console, or its ``file://`` address. None where there is no page, as of a
    store at an own endpoint, or nothing tells which: Azure's portal wants the id of a subscription."""
    uri = connector.uri(key)
    if connector.provider == "local":
        return Path(uri).as_uri()
    if connector.address != connector.uri(""):
        return None
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    bucket, prefix = quote(bucket, safe=""), quote(prefix, safe="/")
    match connector.provider:
        case "s3":
            return f"https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}/"
        case "gcs":
            return f"https://console.cloud.google.com/storage/browser/{bucket}/{prefix}"
        case _:
            return None
