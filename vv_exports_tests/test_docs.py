"""The documentation: what it shows is run against a delivered demo, what it names exists, no command is left out."""

import contextlib
import gzip
import io
import json
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from click.testing import CliRunner

from vv_exports import errors, reading_processes
from vv_exports.cli import main
from vv_exports.client import VVExports
from vv_exports.config import load_config, parse_config
from vv_exports.connectors.spool import Spool, use_spool
from vv_exports.demo import write_demo
from vv_exports.pipeline import Pipeline
from vv_exports.snapshots.store import SnapshotStore
from vv_exports_tests.archives import write_run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("quick-start.md", "reading-deliveries.md", "sdk-swap.md", "verification.md")),
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


HARD = [*([None] * 250), *([2**53 + 1] * 50)]
"""Scores: nulls as far as readers look for types, then integers that a double does not hold."""


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    """The demo, with such scores in front, and a line of 3 MB."""
    folder = tmp_path_factory.mktemp("hard")
    write_demo(folder)
    run = folder / ".vv_exports/archive/indexes/idx_archive/prompt_runs/run_131"
    record = json.loads((run / "prompt_run.json").read_text())
    for counter in ("completed_segments", "total_segments"):
        record[counter] += len(HARD)
    (run / "prompt_run.json").write_text(json.dumps(record))
    with gzip.open(run / "segment_results.jsonl.gz", "rt") as lines:
        results = [json.loads(line) for line in lines]
    for number, score in enumerate(HARD):
        answer = dict.fromkeys(results[-1]["metadata"]) | {"score": score}
        if number == len(HARD) - 1:
            answer["reason"] = 'x"é\n' * (3 << 18)
        named = {"segment_id": f"seg_{number}", "video_id": "vid_a", "start_time": number, "end_time": number + 1}
        results.insert(number, {**results[-1], **named, "result_id": f"segment:{number}", "metadata": answer})
    with gzip.open(run / "segment_results.jsonl.gz", "wt", compresslevel=1) as lines:
        lines.writelines(f"{json.dumps(result)}\n" for result in results)
    client = VVExports(folder / "vv_exports.yaml")
    client.automations.run("idx_archive", "review-team")
    client.close()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [one for language in ("python", "sql") for one in shown(language) if "deliveries/exports" in one.values[0].text],
)
def test_every_example_of_a_reader_runs_on_hard_data(hard, monkeypatch, block):
    monkeypatch.chdir(hard)
    if block.language == "sql":
        assert duckdb.sql(block.text).fetchall()
    else:
        run(replace(block, output=None))


@pytest.mark.slow
def test_the_first_example_that_somebody_meets_loses_no_digit_and_no_text(hard, monkeypatch):
    monkeypatch.chdir(hard)
    (block,) = (block for block in blocks(ROOT / "docs" / "quick-start.md") if block.language == "python")
    metadata = run(replace(block, output=None))["segments"].query("video_id == 'vid_a'")["metadata"]
    assert metadata.struct.field("score").astype(object).replace({pd.NA: None}).to_list() == HARD
    assert metadata.struct.field("reason").iloc[-1] == 'x"é\n' * (3 << 18)


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


NOT_RUN = {
    "indexes sync": "it needs templates: test_index_templates.py",
    "init": "it begins a deployment where there is none",
    "notifications test": "it needs targets: notifications/test_documented.py",
    "reload": "it asks a webserver",
    "ui": "it runs until it is stopped",
    "verify s3://": "it asks a store: test_verify_anywhere.py",
}
"""Commands that the test of all commands leaves out, by how they begin, and why."""


def commands_shown(page: Path) -> list[str]:
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    typed = [line.removeprefix("vv-exports ") for line in lines if line.startswith("vv-exports ")]
    return [line for line in typed if not line.startswith(tuple(NOT_RUN))]


@pytest.fixture(scope="module")
def exported(demo, tmp_path_factory):
    """The demo with an export and a download, and what stands for the names that pages show."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(demo, folder, dirs_exist_ok=True)
    client = VVExports(folder / "vv_exports.yaml")
    of_connector = client.exports.create_prompt_run_export("run_132", "conn_export", "exports/shown")
    download = client.exports.create_prompt_run_export("run_132", format="csv")
    (folder / "downloads").mkdir()
    client.exports.download(download.export_id, folder / "downloads")
    client.close()
    (file,) = folder.glob(f"{SEGMENTS}/prompt_id=prm_scene_log/prompt_run_id=run_132/*.parquet")
    return folder, {
        "exp_073d": of_connector.export_id,
        "exp_2c9e": download.export_id,
        "vid_123": "vid_cooking_ep14",
        "part-00000-d5af2413e3b1fb7d.parquet": file.name,
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands_shown(page)], ids=lambda page: page.name)
def test_every_command_that_is_shown_works(exported, tmp_path, monkeypatch, page):
    folder, names = exported
    shutil.copytree(folder, tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    for line in commands_shown(page):
        typed = re.sub("|".join(map(re.escape, names)), lambda name: names[name[0]], line)
        result = CliRunner().invoke(main, shlex.split(typed, comments=True))
        assert result.exit_code == 0, (line, result.output)


TROUBLE = ROOT / "docs" / "troubleshooting.md"


@pytest.fixture(scope="module")
def texts():
    """The code with each text in one piece, and … for what is put in."""
    code = "\n".join(path.read_text() for path in (ROOT / "vv_exports").rglob("*.py"))
    return re.sub(r"\{[^{}\n]*\}", "…", re.sub(r"[\"']\s+[rf]*[\"']", "", code))


def messages() -> list[str]:
    before_others = TROUBLE.read_text().partition("Other readers say")[0].partition("\n## ")[2]
    return re.findall(r"^\| `([^`]+)` \|", before_others, re.MULTILINE)


def test_every_message_that_is_explained_is_one_of_the_code(texts):
    assert len(messages()) > 30
    for message in messages():
        assert re.search("[^\n]{1,150}?".join(map(re.escape, message.split("…"))), texts), message


def test_every_error_has_its_place_among_the_types():
    types = set(re.findall(r"`(\w+Error)`", TROUBLE.read_text().partition("\n## ")[0]))
    assert types - {"TimeoutError"} == {name for name in vars(errors) if name.endswith("Error")} - {"VVExportsError"}


def test_other_readers_say_what_is_quoted_of_them(demo):
    quoted = re.findall(r"^\| [\w, ]+ \| `([^`]+)` \|", TROUBLE.read_text(), re.MULTILINE)
    by_pandas, by_polars, by_duckdb = map(re.escape, quoted)
    with pytest.raises(pa.ArrowTypeError, match=by_pandas):
        pd.read_parquet(f"{SEGMENTS}/prompt_id=prm_highlights")
    with pytest.raises(pl.exceptions.PolarsError, match=by_polars):
        pl.read_parquet(f"{SEGMENTS}/**/*.parquet")
    with pytest.raises(duckdb.BinderException, match=by_duckdb):
        duckdb.sql(f"select metadata.score from read_parquet('{SEGMENTS}/**')")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_test_that_is_named_exists(page):
    for path, name in re.findall(r"`(vv_exports_tests/[\w/]+\.py)::(\w+)`", page.read_text()):
        assert f"def {name}(" in (ROOT / path).read_text(), name


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
    example, *_ = [block for block in blocks(ROOT / "docs" / "configuration.md") if block.language == "yaml"]
    config = parse_config(example.text, folder=tmp_path, where=example.where)
    assert config.automation("idx_archive", "review-team").subpath == "exports/review-team"


def test_the_spool_that_is_documented_is_where_files_are_made(tmp_path):
    example, _ = [block for block in blocks(ROOT / "docs" / "large-runs.md") if block.language == "yaml"]
    write_demo(tmp_path)
    scratch = tmp_path / "scratch"
    file = tmp_path / "vv_exports.yaml"
    file.write_text(file.read_text() + example.text.replace("/mnt/scratch", str(scratch)))
    pipeline = Pipeline.from_config(load_config(file))
    runs = pipeline.source.prompt_runs("idx_archive")
    finished = [run for run in runs if run.deliverable][:1]
    try:
        with pytest.raises(errors.RequestError, match=r"spool.folder .* is not there, or is no folder: make it"):
            pipeline.snapshots.of_runs(finished)
        scratch.mkdir()
        assert pipeline.snapshots.of_runs(finished)
        assert [path.name.startswith("vv_exports_spool_") for path in scratch.iterdir()] == [True]
    finally:
        use_spool(Spool())


def test_the_processes_that_are_documented_read(tmp_path, monkeypatch):
    _, example = [block for block in blocks(ROOT / "docs" / "large-runs.md") if block.language == "yaml"]
    for run_id in ("run_1", "run_2"):
        write_run(tmp_path / "archive", run_id=run_id)
    (tmp_path / "vv_exports.yaml").write_text(f"{example.text}\nstorage: storage\nconnectors: {{}}\nindexes: {{}}\n")
    pipeline = Pipeline.from_config(load_config(tmp_path / "vv_exports.yaml"))
    monkeypatch.setattr(reading_processes, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(SnapshotStore, "take", lambda *_: pytest.fail("read by this process"))
    batch = pipeline.snapshots.of_ids("idx", ["run_1", "run_2"])
    assert [one.snapshot.rows("segments") for one in batch.taken] == [3, 3]


def test_the_first_section_names_the_main_job_and_the_tests():
    first = (ROOT / "README.md").read_text().split("\n## ")[1]
    commands = next(block.text.split("\n") for block in blocks(ROOT / "README.md") if block.text in first)
    assert commands == ["make run", "make test", ""]
    assert "npm" in first
