"""What is wrong is told to programs as a list, a mistyped command and a forgotten argument included."""

import copy

import pytest

from vv_exports_tests.cli.running import run, write_deployment
from vv_exports_tests.deployments import CONFIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_deployment(tmp_path_factory.mktemp("deployment"))


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (("backfill",), ["Missing 'INDEX'.", "Missing 'NAME'."]),
        (("automations", "show", "idx"), ["Missing argument 'NAME'."]),
        (("report", "idx"), ["Missing 'NAME'.", "Missing '--to'."]),
        (("automations", "run", "idx", "team", "--whatever"), ["No such option '--whatever'."]),
        (("automation", "run"), ["No such command 'automation'. Did you mean 'automations'?"]),
        (("automations", "run", "idx", "tem"), None),
    ],
)
def test_a_command_that_cannot_be_run_gives_one_document_with_each_problem(folder, arguments, problems):
    said = run(folder, *arguments, "--json")
    assert said.code == 2
    found = said.document["error"]["problems"]
    assert found == (problems or [said.document["error"]["message"]])
    assert said.err.splitlines()[-1].startswith("Error: ")
    assert run(folder, *arguments).out == "", "for people, it is on stderr"


def test_each_prompt_run_that_fails_is_a_problem_of_its_own(tmp_path):
    folder = write_deployment(tmp_path)
    for run_id in ("run_123", "run_124"):
        next((folder / "archive").rglob(f"{run_id}/**/*.jsonl")).write_text("{")
    said = run(folder, "automations", "run", "idx", "team", "--json")
    assert said.code == 1
    first, second = said.document["error"]["problems"]
    assert first.startswith("run_123: ")
    assert second.startswith("run_124: ")


def test_each_problem_of_a_configuration_is_one_of_the_list(tmp_path):
    wrong = copy.deepcopy(CONFIG)
    wrong["indexes"]["idx"]["automations"]["team"] |= {"format": "xls", "paused": "maybe"}
    said = run(write_deployment(tmp_path, wrong), "automations", "run", "idx", "team", "--json")
    assert (said.code, said.document["error"]["type"]) == (2, "ConfigurationError")
    assert len(said.document["error"]["problems"]) == 2
