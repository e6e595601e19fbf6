import os

from hypothesis import HealthCheck, settings

# A slow machine is no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# The deployment of whoever runs the tests is not theirs to read or to write.
for name in ("DAGSTER_HOME", "VV_EXPORTS_CONFIG"):
    os.environ.pop(name, None)
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"

# Nor are their credentials, and no proxy stands before a server on loopback.
for name in list(os.environ):
    if name.startswith(("AWS_", "GOOGLE_", "GCSFS_", "AZURE_", "BOTO_", "CLOUDSDK_")):
        os.environ.pop(name)
os.environ |= {
    "NO_PROXY": "127.0.0.1,localhost",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "NO_GCE_CHECK": "true",
}
