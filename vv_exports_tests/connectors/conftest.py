import os

import pytest

_SETTINGS = ("AWS_", "GOOGLE_", "GCSFS_", "AZURE_", "BOTO_", "CLOUDSDK_")


@pytest.fixture(scope="session", autouse=True)
def nobodys_credentials():
    """No proxy on the way to a server on loopback, and none of the credentials of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(_SETTINGS):
                patch.delenv(name)
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("NO_GCE_CHECK", "true")
        yield
