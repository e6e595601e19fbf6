"""Dataset cards: readers load by them what was delivered, and nobody's file is written over."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vv_exports.automations.reconcile import reconcile
from vv_exports.config import parse_config
from vv_exports.connectors.local import LocalConnector
from vv_exports.delivery.cards.files import write_card
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.log import read_log
from vv_exports.delivery.survey import survey
from vv_exports.delivery.verify import verify
from vv_exports.demo import write_demo
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.pipeline import Pipeline
from vv_exports.reader import open_delivery
from vv_exports_tests.delivery.cards import loading
from vv_exports_tests.delivery.given import ODD

PAGE = Path(__file__).parents[3] / "docs/datasets.md"
TEXTS = DatasetTexts(
    title='Scenes of "the news": | <b>#1</b>\n---',
    description="What is seen.\nSecond by second.",
    license="CC-BY-4.0",
    creators=("The archive", "Ünïcode & Söhne"),
    url="https://example.com/scenes",
    cite_as="@misc{scenes,\n title={vv_exports-dataset-card:" + "0" * 64 + "}}",
)


def written(folder: Path, texts: DatasetTexts = TEXTS) -> Destination:
    destination = Destination(LocalConnector("copy", folder.parent), folder.name)
    assert write_card(destination, read_log(destination), texts) == ()
    return destination


@pytest.fixture
def folder(given, tmp_path) -> Path:
    """A copy of the collection that many claims share."""
    return shutil.copytree(given.folder, tmp_path / "copy")


def front_matter(folder: Path) -> dict:
    text = (folder / "README.md").read_text()
    return yaml.safe_load(text.removeprefix("---\n").partition("\n---\n")[0])


@pytest.fixture(scope="module")
def loaded(given, tmp_path_factory) -> tuple[Path, dict]:
    """What both libraries load of it, and what the recipes print, with the collection of the demo."""
    scratch = tmp_path_factory.mktemp("loaded")
    folder = shutil.copytree(given.folder, scratch / "copy")
    written(folder)
    demo = scratch / "demo"
    demo.mkdir()
    write_demo(demo)
    text = (demo / "vv_exports.yaml").read_text().replace("format: parquet", "dataset_card: true")
    config = parse_config(text, folder=demo, where="the demo")
    pipeline = Pipeline.from_config(config)
    listing = pipeline.indexes.listing("idx_archive")
    pipeline.automations.begin("idx_archive", listing, pipeline.clock())
    reconcile(pipeline.automations.get("idx_archive", "review-team"), pipeline.deliveries, listing, None)
    places = (folder, scratch / "cache", PAGE, demo)
    command = [sys.executable, "-m", loading.__name__, *map(str, places)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert said.returncode == 0, said.stderr
    return folder, json.loads(said.stdout)


@pytest.mark.slow
def test_the_recipes_of_the_page_print_what_it_says(loaded):
    _, found = loaded
    assert len(found["recipes"]) == 2
    for printed, expected in found["recipes"]:
        assert printed == expected


TABLES = {
    "segments-0007": {"table": "segments", "prompt": "0007", "folder": "segments"},
    "segments-PRM-a": {"table": "segments", "prompt": "PRM-a"},
    "segments-prm_a": {"table": "segments", "prompt": "prm_a"},
    "segments.v2-0007": {"table": "segments", "prompt": "0007", "folder": "segments.v2"},
    "failures-PRM-a": {"table": "failures", "prompt": "PRM-a"},
    "quarantine-0007": {"table": "quarantine", "prompt": "0007"},
}


@pytest.mark.slow
def test_hugging_face_loads_the_rows_of_each_table_offline_also_of_files_that_wait_for_a_new_column(loaded):
    folder, found = loaded
    rows = found["datasets"]["configurations"]
    (odd,) = rows.keys() - TABLES.keys()
    assert rows[odd][0]["prompt_id"] == ODD
    delivery = open_delivery(folder)
    for name, chosen in TABLES.items():
        theirs = delivery.table(**chosen).to_pylist()
        assert rows[name] == json.loads(json.dumps(theirs, default=str)), name
    assert len(rows["segments-0007"]) == 5, "superseded files, which are kept, are not counted"
    assert found["datasets"]["default"] == rows["segments-0007"]


@pytest.mark.slow
def test_croissants_own_library_finds_nothing_wrong_and_loads_the_records(loaded):
    folder, found = loaded
    found = found["mlcroissant"]
    assert (found["errors"], found["warnings"]) == ([], [])
    said = {"name", "description", "license", "url", "citeAs", "datePublished", "version", "isLiveDataset"}
    assert said <= found["metadata"].keys()
    records = found["records"]
    assert {name: len(of) for name, of in records.items() if name in TABLES} == {
        name: open_delivery(folder).table(**chosen).num_rows for name, chosen in TABLES.items()
    }
    (last,) = [one for one in records["segments-0007"] if one["segment_id"] == "seg_00003"]
    # Of 2**60 + 1: the library reads by pandas, which makes doubles of integers where others are null.
    assert last["metadata"] == {"0001": 2**60, "it%27s": "y", "a%60b%3B": "x", "grid": [[1], []], "mood": None}
    assert last["metadata/shots"] == [{"type": "wide", "on-screen": 1.5}, {"type": "far", "on-screen": None}]
    (reason,) = records["quarantine-0007"][0]["reasons"]
    assert reason["pointer"] == "/mood"


def test_a_card_says_what_is_known_and_nothing_that_nobody_said(folder):
    written(folder)
    metadata, text = front_matter(folder), (folder / "README.md").read_text()
    assert (metadata["pretty_name"], metadata["license"]) == (TEXTS.title.replace("\n", "\\n"), "cc-by-4.0")
    assert [one.get("default") for one in metadata["configs"]].count(True) == 1
    assert '# Scenes of "the news": \\| \\<b>\\#1\\</b>\\\\n---\n' in text
    assert "Second by second." in text

    written(folder, DatasetTexts())
    card = json.loads((folder / "croissant.json").read_text())
    assert not {"license", "creator", "url", "citeAs"} & card.keys()
    assert (card["name"], card["isLiveDataset"]) == ("Prompt results of idx", True)
    assert "license" not in front_matter(folder)
    written(folder, DatasetTexts(license="https://example.com/terms"))
    assert front_matter(folder)["license_link"] == "https://example.com/terms"
    written(folder, DatasetTexts(license="Ours, ask us"))
    assert front_matter(folder)["license_name"] == "Ours, ask us"


def test_columns_are_described_in_the_words_of_the_prompts_schema(deployment, clock):
    from vv_exports.delivery.deliver import deliver  # noqa: PLC0415 - only here

    schema = {
        "type": "object",
        "properties": {
            "mood": {"type": "string", "description": "How it | feels", "enum": ["calm", "tense"]},
            "cast": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "title": "Who"},
                        "lines": {"type": "array", "items": {"type": "string"}},
                        "props": {
                            "type": "array",
                            "items": {"type": "object", "properties": {"a": {"type": "string"}}},
                        },
                    },
                },
            },
            "*": {"type": "string"},
        },
    }
    deliver(deployment.request(deployment.snapshot(schema=schema)), deployment.store, clock)
    destination = deployment.destination()
    write_card(destination, read_log(destination), DatasetTexts())
    folder = Path(destination.uri)
    assert "| `metadata.mood` | `string` | How it \\| feels; one of calm, tense |" in (folder / "README.md").read_text()

    def fields(of: list[dict]) -> dict[str, dict]:
        return {one["name"]: one for field in of for one in (field, *fields(field.get("subField", [])).values())}

    (record_set,) = json.loads((folder / "croissant.json").read_text())["recordSet"]
    told = fields(record_set["field"])
    assert told["metadata.cast[].name"]["description"] == "Who"
    assert told["metadata.cast[].lines"]["isArray"]
    steps = [step["jsonPath"] for step in told["metadata.cast[].lines"]["source"]["transform"]]
    assert steps == ['"cast"', '"lines"']
    assert not {"metadata.cast[].props", "metadata.*"} & told.keys(), "no reader could be told the way there"


def test_the_same_state_gives_the_same_card_and_a_changed_one_stays_somebodys(folder, caplog):
    destination = written(folder)
    before = {name: (folder / name).stat().st_mtime_ns for name in ("README.md", "croissant.json")}
    written(folder)
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before, "nothing is written twice"
    assert not {"README.md", "croissant.json"} & survey(destination).beside.foreign.keys()
    assert verify(destination).foreign == ()

    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("Second by second", "By us"))
    changed = readme.read_bytes()
    texts = DatasetTexts(title="Another")
    assert write_card(destination, read_log(destination), texts) == ("README.md",)
    assert readme.read_bytes() == changed
    assert "README.md was written or changed by somebody" in caplog.text
    assert json.loads((folder / "croissant.json").read_text())["name"] == "Another"
    assert verify(destination).foreign == ("README.md",)
    readme.write_text("mine")
    assert write_card(destination, read_log(destination), texts) == ("README.md",)
    assert readme.read_text() == "mine"
