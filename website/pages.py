"""What the site has beside ``docs/``: the pages of the repository that are elsewhere, and the reference.

A hook of mkdocs. Links are written for the repository, where they work as they are; here they become those of the site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import client_reference
import command_reference
import configuration_reference
import entry_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
    "benchmarks/README.md": "benchmarks.md",
    "deploy/celery/README.md": "deploy-celery.md",
    "deploy/compose/README.md": "deploy-compose.md",
    "deploy/grafana/README.md": "deploy-grafana.md",
    "deploy/kubernetes/README.md": "deploy-kubernetes.md",
}
"""Of pages that are not in ``docs/``: where they are in the repository, and on the site."""
FILES = ("examples/dagster_project/dagster.yaml",)
"""What pages link to and is no page: it is on the site where it is in the repository."""
REFERENCE = {
    "reference/commands.md": command_reference.page,
    "reference/configuration.md": configuration_reference.page,
    "reference/log-entry.md": entry_reference.page,
    "reference/python.md": client_reference.page,
}

_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")
_CELL = re.compile(r"<td>.*?</td>", re.DOTALL)
_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are not in ``docs/``."""
    for path, name in ELSEWHERE.items():
        text = (ROOT / path).read_text()
        files.append(File.generated(config, name, content=text if path.endswith(".md") else plain(path, text)))
    for path in FILES:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "site.css", abs_src_path=str(Path(__file__).with_name("site.css"))))
    for name, page in REFERENCE.items():
        files.append(File.generated(config, name, content=page()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead the links of a page to where their targets are on the site."""
    of_site = page.file.src_uri
    of_repository = next((path for path, name in ELSEWHERE.items() if name == of_site), f"docs/{of_site}")
    parts, at = [], 0
    for fence in [*_FENCE.finditer(markdown), None]:
        end = fence.start() if fence else len(markdown)
        parts.append(_LINK.sub(lambda link: link[1] + led(link[2], of_repository, of_site), markdown[at:end]))
        if fence:
            parts.append(fence[0])
            at = fence.end()
    return "".join(parts)


def on_page_content(html: str, **_: Any) -> str:
    """A bar in the code of a table's cell: GitHub takes its backslash away, Python-Markdown leaves it there."""
    return _CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def led(target: str, of_repository: str, of_site: str) -> str:
    """A relative link of a page in the repository, as the page on the site has to have it."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(of_repository), target))
    name = ELSEWHERE.get(path, path.removeprefix("docs/"))
    return posixpath.relpath(name, posixpath.dirname(of_site) or ".")


def plain(title: str, text: str) -> str:
    """A page of text that is no Markdown."""
    return f"# {title.capitalize()}\n\n```text\n{text.strip()}\n```\n"
