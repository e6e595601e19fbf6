"""The official JSON-Schema-Test-Suite agrees with the contract check, on every draft.

`make install` puts it into `.venv/json-schema-suite`: it is in the source archive of the package jsonschema.
"""

import json
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vv_exports.snapshots.contract import contract_of

DRAFTS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
REFUSED = {
    "leads out of the schema": "it refers to another document, and nothing is fetched",
    "more than once for the same value": "it refers to itself twice for one value, which has no bound",
    "Unknown meta-schema": "its draft is one that somebody made up",
}
"""What a schema that is not checked against is told for."""


def archive() -> Path:
    found = sorted((Path(sys.prefix) / "json-schema-suite").glob("jsonschema-*.tar.gz"))
    if not found:
        skips_nothing = os.environ.get("VV_EXPORTS_TESTS_SKIP_NOTHING")
        assert not skips_nothing, "`make install` has not put the suite into .venv/json-schema-suite"
        pytest.skip("`make install` could not get the suite")
    return found[-1]


def groups(draft: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each file's name, and a schema with its documents."""
    with tarfile.open(archive()) as source:
        for member in source:
            _, marker, name = member.name.partition(f"/json/tests/{draft}/")
            if marker and name.endswith(".json"):
                file = source.extractfile(member)
                assert file is not None
                yield from ((name, group) for group in json.load(file))


def is_only_an_annotation(name: str, test: dict[str, Any]) -> bool:
    """Formats are asserted here in all drafts: who writes one into a prompt's schema expects it."""
    return name == "format.json" and "annotation" in test["description"]


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_official_suite_agrees(draft):
    agreed = 0
    refused: Counter[str] = Counter()
    differing = []
    for name, group in groups(draft):
        schema = group["schema"]
        if isinstance(schema, dict):
            schema = {"$schema": DRAFTS[draft], **schema}
        contract = contract_of(schema)
        if contract.problem is not None:
            refused[next((why for why in REFUSED if why in contract.problem), contract.problem)] += 1
            continue
        for test in group["tests"]:
            is_valid = not contract.violations_of(json.dumps(test["data"]).encode())
            if is_valid == test["valid"]:
                agreed += 1
            elif not is_only_an_annotation(name, test):
                differing.append((name, group["description"], test["description"]))
    assert differing == []
    assert agreed > 800
    assert refused.keys() <= REFUSED.keys()
    assert refused.total() < 35
