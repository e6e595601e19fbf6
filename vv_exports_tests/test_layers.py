"""Who may import whom, and which library has its home where: that the contract is kept, and that it would not be if."""

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from vv_exports_tests.architecture import FLOORS, PAGE, ROOT, drawn, imports

LINTER = Path(sys.executable).with_name("lint-imports")
FOLDERS = [folder for floor in FLOORS for folder in floor]

_AT_HOME: tuple[tuple[str, set[str]], ...] = (
    ("dagster dagster_shared", {"client", "defs", "definitions", "library"}),
    (
        "adlfs aiobotocore aiohttp azure botocore gcsfs google google_crc32c requests s3fs stamina yarl",
        {"connectors"},
    ),
    ("fsspec", {"connectors", "reader"}),
    ("pydantic pydantic_core yaml", {"config"}),
    (
        "pyarrow",
        {
            "connectors",
            "content",
            "defs",
            "demo",
            "formats",
            "own_process",
            "reader",
            "snapshots",
            "sources",
            "table_formats",
        },
    ),
    ("pyiceberg", {"table_formats"}),
    ("click", {"cli"}),
    ("jsonschema_rs", {"snapshots"}),
    ("opentimelineio", {"formats"}),
    ("jinja2 svg", {"pictures"}),
    ("rich", {"console"}),
    ("apprise cloudevents standardwebhooks", {"notifications"}),
    # At home in single modules: a new one beside them is no home.
    ("celery dagster_celery httpx kombu prometheus_client redis sqlalchemy videovector", set()),
    # Of readers, tests and benchmarks.
    ("bagit boto3 datasets deltalake duckdb hypothesis jsonschema mlcroissant moto numpy pandas polars pytest", set()),
    ("vv_exports_tests webvtt", set()),
    # What people ask Dagster with: the package asks its Python.
    ("dagster_graphql dagster_webserver", set()),
)
HOMES = {library: folders for libraries, folders in _AT_HOME for library in libraries.split()}
"""Library -> the folders in any module of which it may be imported."""

ASKED_BY_THE_CLIENT = [
    "automations",
    "checks",
    "connectors",
    "content",
    "defs",
    "delivery",
    "exports",
    "formats",
    "notifications",
    "snapshots",
    "sources",
    "table_formats",
]
"""What the command line leaves to the client, though it is below."""

STORES = ["azure", "gcs", "object_store", "s3"]
"""Modules of connectors that only the registry there picks: anybody else relies on the protocol."""

EVERYWHERE = {"msgspec"}
NOT_IMPORTED = {
    *("dagster_webserver", "sniffio", "azure_storage_blob", "google_auth"),
    *(
        "dagster_aws",
        "dagster_docker",
        "dagster_k8s",
        "dagster_postgres",
        "psycopg2_binary",
    ),
}
"""Dependencies that other libraries, or Dagster's commands, look for, or that a ``dagster.yaml`` names. Two of them are
imported as azure and google."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINTER, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def plant(package: Path, folder: str, imports: list[str]) -> None:
    """Imports in a new module of a folder, or at the end of what is a module itself."""
    lines = "".join(f"import {name}\n" for name in imports)
    if (package / folder).is_dir():
        (package / folder / "planted.py").write_text(lines)
    else:
        with (package / f"{folder}.py").open("a") as module:
            module.write(lines)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package with its contract."""
    top = tmp_path_factory.mktemp("copied")
    shutil.copy(ROOT / "pyproject.toml", top)
    shutil.copytree(ROOT / "vv_exports", top / "vv_exports", ignore=shutil.ignore_patterns("__pycache__"))
    return top


@pytest.fixture(scope="module")
def there(copied):
    """The folders and modules of the contract that are there: some may be missing."""
    package = copied / "vv_exports"
    return [folder for folder in FOLDERS if (package / folder).is_dir() or (package / f"{folder}.py").is_file()]


@pytest.fixture(scope="module")
def caught(copied, there):
    """What the contract says of the copy where every library, and every folder that is above or beside, is imported in
    every folder: pairs of folder and import."""
    untouched = lint(copied)
    assert untouched.returncode == 0, untouched.stdout
    package = copied / "vv_exports"
    for folder in there:
        ours = [other for other in not_for(folder) if other in there]
        if folder in above_the_connectors(there):
            ours += [f"connectors.{store}" for store in STORES]
        plant(package, folder, [*HOMES, *(f"vv_exports.{one}" for one in ours)])
    (package / "unheard_of").mkdir()
    (package / "unheard_of" / "__init__.py").touch()
    outcome = lint(copied)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    told = re.findall(r"^- +vv_exports\.(\S+) -> (?:vv_exports\.)?(\S+)", outcome.stdout, re.MULTILINE)
    unlisted = re.findall(r"^- vv_exports\.(\w+)$", outcome.stdout, re.MULTILINE)
    return {(importer.removesuffix(".planted"), imported) for importer, imported in told}, unlisted


def too_high(folder: str) -> list[str]:
    """What is above a folder, or beside it on its floor."""
    at = next(number for number, floor in enumerate(FLOORS) if folder in floor)
    return [other for floor in FLOORS[: at + 1] for other in floor if other != folder]


def not_for(folder: str) -> list[str]:
    return [*too_high(folder), *(ASKED_BY_THE_CLIENT if folder == "cli" else [])]


def above_the_connectors(there: list[str]) -> list[str]:
    return [folder for folder in there if "connectors" not in [folder, *too_high(folder)]]


def test_who_may_import_whom_is_kept():
    outcome = lint(ROOT)
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize("library", HOMES)
def test_an_import_of_a_library_away_from_its_home_is_caught(caught, there, library):
    assert {folder for folder, imported in caught[0] if imported == library} == set(there) - HOMES[library]


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_import_of_what_is_above_or_beside_is_caught(caught, there, folder):
    found = {imported for importer, imported in caught[0] if importer == folder and imported in FOLDERS}
    assert found == {other for other in not_for(folder) if {other, folder} <= set(there)}


@pytest.mark.parametrize("store", STORES)
def test_an_import_of_one_store_above_the_connectors_is_caught(caught, there, store):
    found = {folder for folder, imported in caught[0] if imported == f"connectors.{store}"}
    assert found == set(above_the_connectors(there))


def test_every_library_that_is_imported_has_a_home():
    """One that no contract names could be imported anywhere."""
    libraries = set().union(*imports()[1].values())
    assert libraries <= HOMES.keys() | EVERYWHERE


def test_a_folder_that_has_no_floor_is_caught(caught):
    assert caught[1] == ["unheard_of"]


def test_every_dependency_has_a_home():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    named = {re.match(r"[\w-]+", one)[0].replace("-", "_").replace("pyyaml", "yaml") for one in stated}
    assert named - NOT_IMPORTED - EVERYWHERE <= HOMES.keys()


def test_private_api_of_others_is_reached_in_modules_of_its_own():
    """Dagster's is in defs."""
    modules = [path for path in (ROOT / "vv_exports").rglob("*.py") if "SLF001" in path.read_text()]
    found = {path.relative_to(ROOT / "vv_exports").as_posix() for path in modules}
    private = {
        "connectors/gcs_session.py",
        "connectors/s3_session.py",
        "sources/interpreter_exit.py",
        "sources/sdk_client.py",
        "table_formats/iceberg_internals.py",
    }
    assert {path for path in found if not path.startswith("defs/")} == private


def test_data_goes_down_the_floors_as_the_design_has_them():
    chain = ["cli", "client", "defs", "pipeline", "automations", "delivery", "snapshots", "sources", "config", "domain"]
    floor_of = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}
    assert all(floor_of[upper] < floor_of[lower] for upper, lower in pairwise([*chain, "errors"]))
    assert floor_of["exports"] == floor_of["automations"]
    assert floor_of["sources"] == floor_of["formats"] == floor_of["connectors"]


def test_the_picture_is_what_the_code_does():
    page = PAGE.read_text()
    assert drawn(page) == page, "the imports have changed: `python -m vv_exports_tests.architecture` draws them anew"


def test_the_map_has_every_folder_and_no_other():
    rows = re.findall(r"^\| `(\w+)[/.\w]*` \|", PAGE.read_text().partition("<!-- drawn -->")[0], re.MULTILINE)
    assert sorted(rows) == sorted(set(FOLDERS) - {"__main__"})
