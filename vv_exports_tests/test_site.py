"""The documentation as a site: every page is on it, reads there as on GitHub, and the reference leaves nothing out."""

import json
import re
import sys
from pathlib import Path

import pytest

from vv_exports import delivery
from vv_exports.cli import main
from vv_exports.client import VVExports
from vv_exports.config import config_schema
from vv_exports_tests.test_docs import PAGES, ROOT, commands

_FENCE = re.compile(r"^( *)```.*?^ *```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def reference(monkeypatch):
    """The pages that are made of the code, as mkdocs gets them; a module for each, by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "website"))

    def page(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name).page()

    return page


def test_every_page_has_its_place_on_the_site():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n  - ")[2]
    listed = re.findall(r": ([\w-]+\.md)$", nav, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= set(listed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lists_are_written_so_that_github_and_the_site_show_the_same(page):
    """Python-Markdown wants a blank line before a list, four blanks before what belongs to an item beside its first
    paragraph, and a blank line between that and the next item."""
    before, inside, nested = "", False, False
    for line in _FENCE.sub(r"\1(code)", page.read_text()).splitlines():
        item = re.match(r"([*-]|\d+\.) ", line)
        if item:
            assert not before or (inside and not nested), f"a blank line before: {line}"
        elif inside and not before and re.match(r" {1,3}\S", line):
            pytest.fail(f"four blanks before what belongs to the item of a list: {line}")
        inside = bool(item) or (inside and (not line or line.startswith(" ")))
        nested = not item and inside and (nested or (not before and line.startswith("    ")))
        before = line


def test_the_reference_has_every_command_and_option(reference):
    page = reference("command_reference")
    for path, command in ((path, find(path)) for path in commands()):
        _, _, section = page.partition(f"\n## {' '.join(path)}\n")
        section = section.partition("\n## ")[0]
        assert section, path
        for parameter in command.params:
            if parameter.name not in {"as_json", "debug"} and parameter.param_type_name == "option":
                assert f"`{parameter.opts[0]}`" in section, (path, parameter.opts)


def find(path):
    command = main
    for name in path:
        command = command.commands[name]
    return command


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("configuration_reference", config_schema()),
        ("entry_reference", json.loads((Path(delivery.__file__).parent / "log_entry.schema.json").read_text())),
    ],
)
def test_the_reference_has_every_field(reference, name, schema):
    page = reference(name)
    for definition in (schema, *schema["$defs"].values()):
        for field in definition.get("properties", ()):
            assert f"| `{field}` |" in page, field


def test_the_reference_has_every_method_of_the_client(reference, tmp_path, monkeypatch):
    page = reference("client_reference")
    monkeypatch.chdir(tmp_path)
    client = VVExports()
    for part, value in vars(client).items():
        if type(value).__module__.startswith("vv_exports.client."):
            for method in (name for name in vars(type(value)) if not name.startswith("_")):
                if callable(getattr(value, method)):
                    assert f"### client.{part}.{method}\n" in page
