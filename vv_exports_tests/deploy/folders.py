"""What the folders of ``deploy/`` say, read for tests."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
CELERY = DEPLOY / "celery"
COMPOSE = DEPLOY / "compose"
KUBERNETES = DEPLOY / "kubernetes"

_VARIABLE = re.compile(r"\$\{(\w+)(?::-((?:[^{}]|\$\{\w+\})*)|:\?)?\}")


def instruction(name: str, rest: str = "") -> list[str]:
    """What the image does by itself: the JSON of the last ``CMD``, or of the one after ``HEALTHCHECK``."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return json.loads(re.findall(rf"^{name}\b{rest}.*?(\[.*\])$", text, re.MULTILINE)[-1])


def image_environment() -> dict[str, str]:
    """The variables of the image, but for its ``PATH``."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    found = dict(one.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE) for one in line.split())
    return {name: value for name, value in found.items() if name != "PATH"}


def compose(environment: dict[str, str]) -> dict[str, Any]:
    """``compose.yaml`` with the variables of ``.env`` put in."""

    def value(match: re.Match[str]) -> str:
        if match[1] in environment:
            return environment[match[1]]
        assert match[2] is not None, f"{match[1]} has no value, and no default"
        return _VARIABLE.sub(value, match[2])

    read = yaml.safe_load(_VARIABLE.sub(value, (COMPOSE / "compose.yaml").read_text()))
    for service in read["services"].values():
        service["environment"] = {name: one or "" for name, one in service["environment"].items()}
    return read
