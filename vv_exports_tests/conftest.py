import os

from hypothesis import HealthCheck, settings

# A slow machine is no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# The deployment of whoever runs the tests is not theirs to read or to write.
for name in ("DAGSTER_HOME", "VV_EXPORTS_CONFIG"):
    os.environ.pop(name, None)
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
