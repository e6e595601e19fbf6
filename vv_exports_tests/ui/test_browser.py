"""The Dagster UI as someone meets it who opens it for the first time: Chromium, `dagster dev`, the demo.

What is on screen is found by what it says. What a test does there it looks up elsewhere too: on the disk, with the
client.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Error, Locator, Page, expect, sync_playwright

import vv_exports
from vv_exports.client import VVExports
from vv_exports.demo import write_demo
from vv_exports_tests.servers.processes import free_ports, running
from vv_exports_tests.ui.chromium import WAIT, opened

pytestmark = pytest.mark.slow

ROOT = Path(vv_exports.__file__).parents[1]
_LOOKS, _LOOK = 12, 5_000
"""How often a page is loaded until it says something, and how long one look lasts."""
INDEX_EXPORT, PROMPT_RUNS = "/assets/idx_archive/index_export", "/assets/idx_archive/prompt_runs"
REVIEW_TEAM, NEWSROOM = "/assets/idx_archive/exports/review-team", "/assets/idx_archive/exports/newsroom"
SENSOR = "/locations/vv_exports/sensors/idx_archive__review_team__delivery"
LAUNCH = """\
ops:
  idx_archive__index_export:
    config:
      destination_connector_id: {connector}
      destination_subpath: {subpath}
      format: csv
      prompt_run_ids: [run_123]
"""


@dataclass(frozen=True)
class UI:
    """A page in a browser, and the deployment whose UI it shows."""

    page: Page
    folder: Path
    url: str

    def open(self, path: str, until: str) -> Page:
        """Show a page, anew until it says something: Dagster renews some of what it shows only after a minute."""
        for _ in range(_LOOKS):
            self.page.goto(self.url + path)
            try:
                self.page.get_by_text(until).first.wait_for(timeout=_LOOK)
            except Error:
                continue
            return self.page
        pytest.fail(f"{path} does not say {until!r}: {self.page.inner_text('body')}")

    def client(self) -> VVExports:
        """The deployment, asked without the UI."""
        return VVExports(self.folder / "vv_exports.yaml")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    """The demo, as `make ui` shows it: its daemon reads and delivers meanwhile."""
    folder, (port,) = tmp_path_factory.mktemp("ui"), free_ports(1)
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright, opened(playwright) as page:
        write_demo(folder)
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(ROOT / name, folder)
        command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
        with running(command, f"http://127.0.0.1:{port}/server_info", folder, {"DAGSTER_HOME": str(folder)}):
            yield UI(page, folder, f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module", autouse=True)
def backfill(ui: UI) -> str:
    """Two partitions of a paused automation, chosen in its dialog. The daemon looks for backfills twice a minute, so
    it is asked for before the tests. Gives the address of its page."""
    ui.open(f"{PROMPT_RUNS}?view=partitions", until="Materialized (8)")
    page = ui.open(NEWSROOM, until="is paused in the configuration")
    page.get_by_role("button", name="Materialize").click()
    # Not "Are you sure?": Dagster warns only where nothing was read yet, and that does not last until one gets here.
    page.get_by_text("Select a partition or create one").click()
    for run_id in ("run_123", "run_124"):
        _shown(page, run_id).click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("2 partitions", exact=True)).to_be_visible()
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("View", exact=True).click()
    page.wait_for_url("**/runs/b/*")
    return page.url.removeprefix(ui.url)


def _shown(page: Page, text: str) -> Locator:
    """What says a text, in full: Dagster measures on another copy of it, that nobody sees, where it is to be cut."""
    return page.get_by_text(text, exact=True).filter(visible=True).first


def test_before_anything_is_clicked_there_is_a_collection_that_explains_itself(ui):
    page = ui.open(REVIEW_TEAM, until="collected_prompt_runs")
    for said in (
        "Collection of automation review-team of index idx_archive",
        f"kept at {ui.folder}/deliveries/exports/review-team",
        "delivers as soon as a prompt run is finished",
        "The medium's name at the platform",
    ):
        expect(page.get_by_text(said).first).to_be_visible()
    _sees_picture(page, "deliveries", "deliveries over time")
    assert ui.client().automations.retrieve("idx_archive", "review-team").delivered == 8


def test_the_graph_has_a_name_for_each_asset_and_no_job_is_anonymous(ui):
    page = ui.open("/asset-groups", until="Global asset lineage")
    names = ("prompt_runs", "review-team", "review-team__reconciliation", "index_export", "prompt_run_export")
    for name in names:
        expect(_shown(page, name)).to_be_visible()
    ui.open("/locations/vv_exports/jobs", until="No jobs found")


def test_a_picture_shows_which_parts_of_each_medium_have_results(ui):
    page = ui.open(f"{PROMPT_RUNS}?view=partitions&partition=run_123", until="coverage")
    _sees_picture(page, "coverage", "segments of each medium")


def _sees_picture(page: Page, metadata: str, title: str) -> None:
    """Open a picture that is in an asset's metadata: it is drawn."""
    row = page.get_by_role("row").filter(has=page.get_by_text(metadata, exact=True))
    row.get_by_text("[Show Markdown]").click()
    picture = page.get_by_alt_text(title)
    picture.wait_for()
    assert picture.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") > 100


def test_the_launchpad_refuses_what_cannot_be_and_exports_what_is_asked_for(ui):
    page = ui.open(INDEX_EXPORT, until="Configure it in the launchpad")
    page.get_by_role("button", name="Materialize").click(modifiers=["Shift"])
    launch = page.get_by_role("button", name="Materialize").last
    for connector, subpath, why in (
        ("conn_ingest", "exports", "got conn_ingest"),
        (
            "conn_export",
            "{env: HOME}",
            "Invalid scalar at path root:ops:idx_archive__index_export:config:destination_subpath",
        ),
    ):
        _write(page, LAUNCH.format(connector=connector, subpath=subpath))
        expect(page.get_by_text(why).first).to_be_visible()
        expect(launch).to_be_disabled()
    _write(page, LAUNCH.format(connector="conn_export", subpath="exports/from-the-browser"))
    expect(page.get_by_text("No errors")).to_be_visible()
    launch.click()
    page.wait_for_url("**/runs/*")
    _shown(page, "Success").wait_for()
    page = ui.open(f"{INDEX_EXPORT}?view=events", until="exports/from-the-browser")
    expect(page.get_by_role("row").filter(has_text="dagster/row_count")).to_contain_text("75")
    (file,) = (ui.folder / "deliveries/exports/from-the-browser").glob("exp_*/segments/*/*/*.csv*")
    assert "run_123" in str(file)


def _write(page: Page, text: str) -> None:
    """Put a text in the launchpad's editor, instead of what is there."""
    page.locator(".CodeMirror").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(text)


def test_the_switch_of_its_sensor_pauses_an_automation(ui):
    page = ui.open(SENSOR, until="The switch is the automation's pause")
    switch = page.get_by_role("checkbox")
    assert switch.is_checked()
    assert not ui.client().automations.retrieve("idx_archive", "review-team").paused
    for _ in range(3):
        page.locator("label", has=switch).click()
        with suppress(AssertionError):  # a click is lost where the page is drawn anew at that moment
            expect(switch).not_to_be_checked(timeout=10_000)
            break
    page.reload()
    expect(switch).not_to_be_checked()
    assert ui.client().automations.retrieve("idx_archive", "review-team").paused


def test_checks_say_what_is_the_matter(ui):
    page = ui.open(f"{REVIEW_TEAM}?view=checks", until="break the prompt's JSON Schema")
    for said in ("contract", "schema_change", "verification", "They are delivered like all others"):
        expect(page.get_by_text(said).first).to_be_visible()


def test_a_backfill_delivers_the_partitions_that_were_chosen(ui, backfill):
    page = ui.open(backfill, until="Completed")
    page = ui.open(f"{NEWSROOM}?view=partitions&partition=run_124", until="Materialized (2)")
    expect(page.get_by_text("Missing (6)")).to_be_visible()
    collection = ui.client().automations.retrieve("idx_archive", "newsroom")
    assert (collection.delivered, collection.paused) == (2, True)
    runs = ui.client().instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill.rpartition("/")[2]}))
    assert [run.tags["vv_exports/connector"] for run in runs] == ["conn_export"]
