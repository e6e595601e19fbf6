"""A delivery's link opens the folder where its provider shows it, and no other's."""

import pytest

from vv_exports.connectors.azure import AzureConnector
from vv_exports.connectors.console_pages import console_page
from vv_exports.connectors.gcs import GcsConnector
from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.s3 import S3Connector

AWS = "https://s3.console.aws.amazon.com/s3/buckets/bucket?prefix="


@pytest.mark.parametrize(
    ("connector", "page"),
    [
        (LocalConnector("c", "/data", "a b"), "file:///data/a%20b/x%23y/%C3%BC"),
        (S3Connector("c", "bucket", "base"), f"{AWS}base/x%23y/%C3%BC/"),
        (S3Connector("c", "bucket", endpoint_url="http://127.0.0.1:1"), None),
        (GcsConnector("c", "bucket"), "https://console.cloud.google.com/storage/browser/bucket/x%23y/%C3%BC"),
        (AzureConnector("c", "account", "container"), None),
    ],
    ids=lambda one: getattr(one, "provider", ""),
)
def test_the_page_of_a_folder(connector, page):
    assert console_page(connector, "x#y/ü") == page
