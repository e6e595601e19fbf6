"""The documentation: what it shows is run against a delivered demo, what it names exists, no command is left out."""

import contextlib
import io
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from vv_exports.cli import main
from vv_exports.client import VVExports
from vv_exports.config import parse_config
from vv_exports.demo import write_demo

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("reading-deliveries.md", "sdk-swap.md", "verification.md")),
]
SEGMENTS = "deliveries/exports/review-team/segments"

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block, and the ``text`` block right after it, which shows what it prints."""

    where: str
    language: str
    text: str
    output: str | None


def blocks(page: Path) -> list[Block]:
    content = page.read_text()
    found = list(_FENCE.finditer(content))
    made = []
    for number, match in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else None
        shown = after is not None and after[2] == "text" and not content[match.end() : after.start()].strip()
        line = content.count("\n", 0, match.start()) + 1
        output = textwrap.dedent(after[3]) if shown else None
        made.append(Block(f"{page.name}:{line}", match[2], textwrap.dedent(match[3]), output))
    return made


def shown(language: str, pages: list[Path] = RUN) -> list[pytest.param]:
    return [
        pytest.param(block, id=block.where) for page in pages for block in blocks(page) if block.language == language
    ]


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def parse(arguments: list[str]) -> None:
    """Parse a command line as far as its command; raises click.UsageError for what does not exist."""
    context, rest = click.Context(main, info_name="vv-exports"), arguments
    command: click.Command = main
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        context, command = click.Context(found, parent=context, info_name=name), found
    command.make_context(name, rest, parent=context.parent)


def command_lines() -> list[pytest.param]:
    found = []
    for page in PAGES:
        for block in blocks(page):
            lines = [line for line in block.text.splitlines() if line.startswith("vv-exports ")]
            found += [pytest.param(line, id=f"{block.where} {line}") for line in lines if block.language == "sh"]
    makefile = (ROOT / "Makefile").read_text()
    found += [
        pytest.param(line, id=f"Makefile {line}")
        for line in re.findall(r"^\t\$\(BIN\)/(vv-exports .*)$", makefile, re.MULTILINE)
    ]
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.delenv("VV_EXPORTS_CONFIG", raising=False)
        patch.chdir(folder)
        write_demo(folder)
        VVExports().automations.run("idx_archive", "review-team")
        yield folder


def run(block: Block) -> dict:
    names = {"__name__": "documented"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, block.where, "exec"), names)
    if block.output is not None:
        assert printed.getvalue() == block.output
    return names


def _text(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return "NULL" if value is None else str(value)


@pytest.mark.parametrize("block", shown("python"))
def test_every_python_example_runs_and_prints_what_is_shown(demo, block):
    run(block)


@pytest.mark.parametrize("block", shown("sql"))
def test_every_query_gives_the_rows_that_are_shown(demo, block):
    rows = duckdb.sql(block.text).fetchall()
    assert [", ".join(map(_text, row)) for row in rows] == block.output.splitlines()


def test_the_downstream_asset_loads_the_collection(demo):
    (block,) = [block for page in RUN for block in blocks(page) if "@dg.asset" in block.text]
    definitions = run(block)["defs"]()
    key = dg.AssetKey("segments_by_video")
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=VVExports().instance, asset_selection=[key]
    )
    (event,) = result.get_asset_materialization_events()
    assert {name: value.value for name, value in event.materialization.metadata.items()} == {
        "videos": 7,
        "segments": 645,
    }


@pytest.mark.parametrize("block", shown("yaml"))
def test_the_launchpad_takes_the_configuration_that_is_shown(demo, block):
    job = VVExports().definitions.resolve_implicit_global_asset_job_def()
    (asset,) = yaml.safe_load(block.text)["ops"]
    chosen = job.get_subset(asset_selection={dg.AssetKey(asset.split("__"))})
    assert dg.validate_run_config(chosen, yaml.safe_load(block.text))


def test_duckdb_without_union_by_name_leaves_the_fields_of_other_prompts_out(demo):
    everything = f"from read_parquet('{SEGMENTS}/**')"
    assert duckdb.sql(f"select count(*), count(metadata.mood) {everything}").fetchall() == [(645, 239)]
    with pytest.raises(duckdb.BinderException, match='"score"'):
        duckdb.sql(f"select metadata.score {everything}")


def test_polars_refuses_prompts_that_differ_and_concatenates_frames(demo):
    with pytest.raises(pl.exceptions.PolarsError):
        pl.read_parquet(f"{SEGMENTS}/**/*.parquet")
    frames = [pl.read_parquet(folder / "**/*.parquet") for folder in Path(SEGMENTS).iterdir()]
    metadata = pl.concat(frames, how="diagonal_relaxed")["metadata"]
    assert (len(metadata), metadata.struct.field("score").count()) == (645, 159)


def test_polars_reads_a_prompts_folder(demo):
    assert len(pl.read_parquet(f"{SEGMENTS}/prompt_id=prm_highlights")) == 160


@pytest.mark.parametrize("read", [pd.read_parquet, pq.read_table])
def test_the_path_must_be_left_alone_by_pandas_and_read_table(demo, read):
    folder = f"{SEGMENTS}/prompt_id=prm_highlights"
    with pytest.raises(pa.ArrowTypeError, match="prompt_run_id"):
        read(folder)
    assert len(read(folder, partitioning=None)) == 160


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_that_is_shown_can_be_parsed(line):
    parse(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("wrong", ["nonsense", "runs nonsense", "verify", "runs list idx --nonsense", "demo here"])
def test_a_command_line_that_does_not_exist_would_be_noticed(wrong):
    with pytest.raises(click.UsageError):
        parse(shlex.split(wrong))


@pytest.mark.parametrize("command", [pytest.param(" ".join(path), id=" ".join(path)) for path in commands()])
def test_every_command_is_in_the_readme(command):
    assert re.search(rf"`vv-exports {re.escape(command)}[` ]", (ROOT / "README.md").read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_command_target_or_file_that_does_not_exist(page):
    content = page.read_text()
    known = {path[:depth] for path in commands() for depth in (1, 2)}
    for words in re.findall(r"`vv-exports ((?:[a-z]+ ?)+)", content):
        assert tuple(words.split()[:2]) in known, words
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", content, re.MULTILINE)) <= targets
    for path in re.findall(r"`((?:vv_exports|vv_exports_tests|docs|benchmarks)/[\w/.]+)`", content):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://") or target.endswith(".png"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, target


def test_the_configuration_that_is_documented_is_valid(tmp_path):
    (example,) = [block for block in blocks(ROOT / "docs" / "configuration.md") if block.language == "yaml"]
    config = parse_config(example.text, folder=tmp_path, where=example.where)
    assert config.automation("idx_archive", "review-team").subpath == "exports/review-team"


def test_the_first_section_names_the_main_job_and_the_tests():
    first = (ROOT / "README.md").read_text().split("\n## ")[1]
    commands = next(block.text.split("\n") for block in blocks(ROOT / "README.md") if block.text in first)
    assert commands == ["make run", "make test", ""]
    assert "npm" in first
