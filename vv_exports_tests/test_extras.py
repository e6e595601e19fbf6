"""Each extra can be installed into an empty environment, and has what it is there for; and all go together.

Packages are hard links into the cache of `uv`: the first run downloads them, and later ones need seconds.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from vv_exports_tests.servers.processes import not_here

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
_MODULES = {
    "azure-storage-blob": "azure.storage.blob",
    "google-auth": "google.auth",
    "google-crc32c": "google_crc32c",
    "psycopg2-binary": "psycopg2",
}
"""Requirements whose module is not called like them."""
USES = {
    "apprise": ["vv_exports.notifications.apprise_service"],
    "aws": ["dagster_aws.s3"],
    "azure": ["vv_exports.connectors.azure"],
    "celery": ["dagster_celery.app", "vv_exports.defs.celery_runs"],
    "docker": ["dagster_docker.docker_run_launcher"],
    "gcs": ["vv_exports.connectors.gcs"],
    "iceberg": ["vv_exports.table_formats.iceberg"],
    "k8s": ["dagster_k8s.launcher"],
    "video": ["vv_exports.formats.otio"],
    "postgres": ["sqlalchemy.dialects.postgresql.psycopg2", "dagster_postgres.run_storage"],
}
"""What each is there for."""
_NO_NETWORK = ("error sending request", "failed to lookup address", "dns error")


@dataclass(frozen=True)
class Installer:
    """Installs the package, built once, into one place, which is emptied each time."""

    uv: str
    folder: Path
    wheel: Path

    def install(self, extras: str) -> Path:
        """Returns the Python of the environment."""
        place = self.folder / "environment"
        run(self.uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place))
        python = place / "bin" / "python"
        wanted = f"vv_exports[{extras}] @ {self.wheel.as_uri()}"
        run(self.uv, "pip", "install", "--quiet", "--python", str(python), wanted)
        return python

    def import_in(self, python: Path, modules: list[str]) -> None:
        """Modules are compiled once for all environments: they are at the same place, with the same times."""
        environ = {"PYTHONPYCACHEPREFIX": str(self.folder / "compiled")}
        run(str(python), "-c", f"import {', '.join(modules)}", environ=environ)


def run(*command: str, environ: dict[str, str] | None = None) -> str:
    """Run a command, with the certificates of this machine: the tests' own are of no package index."""
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, **(environ or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode and any(said in done.stderr for said in _NO_NETWORK):
        not_here("what an extra needs", f"the package index cannot be reached: {done.stderr[-300:]}")
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installer() -> Iterator[Installer]:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        not_here("uv", "pip install uv")
    # On the disk of the cache, as far as can be: links do not lead from one disk to another.
    with tempfile.TemporaryDirectory(prefix="extras-", dir=sys.prefix) as folder:
        run(uv, "build", "--quiet", "--wheel", "--out-dir", folder, str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        yield Installer(uv, Path(folder), wheel)


def modules_of(extra: str) -> list[str]:
    names = [Requirement(one).name for one in EXTRAS[extra]]
    return [_MODULES.get(name, name.replace("-", "_")) for name in names] + USES[extra]


def test_each_extra_brings_what_it_is_there_for(installer):
    """One after the other at one place, so that what they share is compiled once."""
    for extra in EXTRAS:
        installer.import_in(installer.install(extra), modules_of(extra))


def test_all_extras_go_together(installer):
    python = installer.install(",".join(EXTRAS))
    run(installer.uv, "pip", "check", "--quiet", "--python", str(python))


def test_the_package_needs_none_of_them(installer):
    installer.import_in(installer.install(""), ["vv_exports.cli", "vv_exports.connectors.registry"])
