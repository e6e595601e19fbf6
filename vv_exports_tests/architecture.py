"""Draws who imports whom, of the code as it is, into ``docs/architecture.md``.

Run it with ``python -m vv_exports_tests.architecture``.
"""

import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
MARK = "<!-- drawn -->\n"
_CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
FLOORS = [[part.strip("() ") for part in floor.split("|")] for floor in _CONTRACTS[0]["layers"]]
"""The folders of the package, top to bottom, by the import contract."""


def imports() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Of each folder, or module beside the folders: which others of the package it imports, and which libraries."""
    graph = grimp.build_graph("vv_exports", include_external_packages=True, cache_dir=None)
    ours: dict[str, set[str]] = {}
    libraries: dict[str, set[str]] = {}
    for module in graph.modules - {"vv_exports"}:
        top, _, rest = module.partition(".")
        if top != "vv_exports":
            continue
        folder = rest.partition(".")[0]
        for imported in graph.find_modules_directly_imported_by(module):
            root, _, name = imported.partition(".")
            if root == "vv_exports":
                ours.setdefault(folder, set()).update({name.partition(".")[0]} - {folder, ""})
            elif root not in sys.stdlib_module_names:
                libraries.setdefault(folder, set()).add(root)
        ours.setdefault(folder, set())
    return ours, libraries


def drawn(page: str) -> str:
    """The page with what is below its mark drawn anew."""
    ours, libraries = imports()
    lines = ["```mermaid", "flowchart TD"]
    for number, floor in enumerate(FLOORS):
        lines += [f'  subgraph floor{number}[" "]', *(f"    {node(one)}" for one in floor if one in ours), "  end"]
    lines += [f"  {one} --> {other}" for one, others in by_floor(ours) for other in direct(ours, one, others)]
    lines += ["```", "", "| | imports | and of libraries |", "|---|---|---|"]
    for one, others in by_floor(ours):
        listed = ", ".join(each for each, _ in by_floor({other: set() for other in others}))
        lines.append(f"| `{one}` | {listed or 'none'} | {', '.join(sorted(libraries.get(one, ()))) or 'none'} |")
    return page.partition(MARK)[0] + MARK + "\n".join([*lines, ""])


def node(folder: str) -> str:
    """A folder in the picture."""
    return f'{folder}["{folder}"]'


def by_floor(ours: dict[str, set[str]]) -> list[tuple[str, set[str]]]:
    """The folders in the order of their floors."""
    order = [folder for floor in FLOORS for folder in floor]
    return sorted(ours.items(), key=lambda item: order.index(item[0]))


def direct(ours: dict[str, set[str]], one: str, others: set[str]) -> list[str]:
    """Those of the imports of a folder to which no longer way leads: the picture would be black with the rest."""

    def beyond(folder: str) -> set[str]:
        return ours[folder].union(*map(beyond, ours[folder]))

    further = set().union(*map(beyond, others)) if others else set()
    return [each for each, _ in by_floor({other: set() for other in others - further})]


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
