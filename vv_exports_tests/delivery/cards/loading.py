"""Loads a folder by its dataset card, as its readers do, and prints the rows of each table, and what the recipes of a
page print in another folder: a process of its own, since the libraries take a while to import, and warn of one another.

``python -m vv_exports_tests.delivery.cards.loading FOLDER CACHE PAGE RECIPES_RUN_IN``
"""

import contextlib
import io
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def by_datasets(folder: Path, cache: Path) -> dict[str, Any]:
    """What Hugging Face's library makes of it: the rows of each configuration, and of none that is named."""
    os.environ["HF_HOME"] = str(cache)
    import datasets  # noqa: PLC0415 - once the environment is set

    def rows(*configuration: str) -> list[dict[str, Any]]:
        return datasets.load_dataset(str(folder), *configuration, split="train", cache_dir=str(cache)).to_list()

    names = datasets.get_dataset_config_names(str(folder))
    return {"default": rows(), "configurations": {name: rows(name) for name in names}}


def by_mlcroissant(folder: Path) -> dict[str, Any]:
    """What Croissant's library finds wrong, and the records of each record set."""
    import mlcroissant  # noqa: PLC0415 - as datasets

    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    return {
        "errors": sorted(issues.errors),
        "warnings": sorted(issues.warnings),
        "metadata": dataset.metadata.to_json(),
        "records": {
            one.uuid: [
                {name.removeprefix(f"{one.uuid}/"): _plain(value) for name, value in record.items()}
                for record in dataset.records(one.uuid)
            ]
            for one in dataset.metadata.record_sets
        },
    }


def _plain(value: Any) -> Any:
    """A value with the names of its parts alone."""
    match value:
        case dict():
            return {name.rpartition("/")[2]: _plain(one) for name, one in value.items()}
        case list():
            return [_plain(one) for one in value]
        case bytes():
            return value.decode()
        case _:
            return value


def by_recipes(page: Path, folder: Path) -> list[tuple[str, str]]:
    """What each recipe prints, and what the page says that it prints."""
    recipes = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    printed = []
    with contextlib.chdir(folder):
        for code, expected in recipes:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, page.name, "exec"), {})
            printed.append((out.getvalue(), expected))
    return printed


if __name__ == "__main__":
    folder, cache, page, place = map(Path, sys.argv[1:])
    found = {
        "datasets": by_datasets(folder, cache),
        "mlcroissant": by_mlcroissant(folder),
        "recipes": by_recipes(page, place),
    }
    json.dump(found, sys.stdout, default=str)
