"""How the configuration file is found, read and checked."""

import os
import stat
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vv_exports.config.document import Document
from vv_exports.config.extent import MOST_BYTES
from vv_exports.config.models import Config, Destinations
from vv_exports.config.problems import problem
from vv_exports.config.rules import resolved, without_faulty
from vv_exports.errors import ConfigurationError

ENVIRONMENT_VARIABLE = "VV_EXPORTS_CONFIG"
FILE_NAME = "vv_exports.yaml"
_MOST_PROBLEMS = 200


def load_config(
    path: Path | None = None, environ: Mapping[str, str] | None = None, further: Mapping[str, Any] | None = None
) -> Config:
    """Read the configuration: ``path``, else the file that ``VV_EXPORTS_CONFIG`` names, else
    ``./vv_exports.yaml``, else the packaged demo configuration, whose paths start at the working directory.
    ``further`` are indexes that are described elsewhere, as they would stand in the file.

    Raises:
        ConfigurationError: with every problem of the file, each with its place, the value, what is allowed.
    """
    text, folder, where = _found(path, os.environ if environ is None else environ)
    return parse_config(text, folder=folder, where=where, further=further)


def dagster_project(path: Path | None = None) -> tuple[Path, Path] | None:
    """The file that ``load_config`` reads, and the Dagster project that it names, where it names one."""
    file, folder, where = _file(path, os.environ)
    if not isinstance(file, Path) or not file.is_file():
        return None
    text, _, _ = _found(path, os.environ)
    if "dagster_project" not in text:  # nearly always, and a large file takes long to parse
        return None
    named = Document().read(text, where).get("dagster_project")
    return (file, folder / Path(named).expanduser()) if isinstance(named, str) else None


def indexes_in(path: Path) -> frozenset[str]:
    """The ids under ``indexes`` in a file, whether what stands there is right or wrong."""
    text, _, where = _found(path, {})
    declared = Document().read(text, where).get("indexes")
    return frozenset(declared) if isinstance(declared, dict) else frozenset()


def _found(path: Path | None, environ: Mapping[str, str]) -> tuple[str, Path, str]:
    """The text of the file, the folder that its relative paths are relative to, and how to speak of it."""
    file, folder, where = _file(path, environ)
    try:
        return _read(file, where).decode("utf-8-sig"), folder, where
    except OSError as error:
        raise ConfigurationError(where, [f"cannot be read: {error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            where,
            [f"cannot be read: it is no text in UTF-8 ({error.reason} at byte {error.start:,}); save it as UTF-8"],
        ) from error


def parse_config(text: str, *, folder: Path, where: str, further: Mapping[str, Any] | None = None) -> Config:
    """The configuration in a YAML text.

    Args:
        text: the YAML document.
        folder: what relative paths are relative to.
        where: the text's name in messages.
        further: indexes that are described elsewhere, by their ids.

    Raises:
        ConfigurationError: with every problem of the text.
    """
    document = Document()
    data = document.read(text, where)
    if further:
        here = data.get("indexes") or {}
        data["indexes"] = {**here, **further} if isinstance(here, dict) else here
    context = {"folder": folder.absolute()}
    problems, unsaid = document.problems, 0
    try:
        parts: Destinations = Config.model_validate(data, context=context)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        unsaid = len(errors[_MOST_PROBLEMS:])
        problems += map(problem, errors[:_MOST_PROBLEMS])
        parts = Destinations.model_validate(without_faulty(data, errors), context=context)
    declared = data.get("connectors") or {}
    indexes = resolved(
        parts, declared if isinstance(declared, dict) else {}, problems, where if further else "this file"
    )
    if problems or not isinstance(parts, Config):
        unsaid += len(problems[_MOST_PROBLEMS:])
        more = [f"and {unsaid:,} more; mend these first"] if unsaid else []
        raise ConfigurationError(where, problems[:_MOST_PROBLEMS] + more)
    return parts.model_copy(update={"indexes": indexes})


def config_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def config_place(environ: Mapping[str, str] | None = None) -> str:
    """Which file ``load_config`` reads, and why, for people."""
    return _file(None, os.environ if environ is None else environ)[2]


def _read(file: Path | Traversable, where: str) -> bytes:
    """The bytes of a file. What is none, as a pipe, may never end, or never begin."""
    if not isinstance(file, Path):
        return file.read_bytes()
    with open(file, "rb", opener=_without_waiting) as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(where, ["cannot be read: it is no regular file; copy what it holds to one"])
        data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigurationError(where, [f"is larger than {MOST_BYTES:,} bytes; no more are read"])
    return data


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | Traversable, Path, str]:
    """The file to read, the folder that its relative paths are relative to, and how to speak of it."""
    if path:
        return path, path.parent, str(path)
    if named := environ.get(ENVIRONMENT_VARIABLE):
        return Path(named), Path(named).parent, f"{named} (from {ENVIRONMENT_VARIABLE})"
    usual = Path(FILE_NAME)
    # A dangling link is a file that went missing, which must not start the demo instead.
    if usual.exists() or usual.is_symlink():
        return usual, usual.parent, str(usual)
    demo = resources.files("vv_exports") / "demo" / FILE_NAME
    return demo, Path.cwd(), f"the packaged demo configuration (there is no {FILE_NAME} in {Path.cwd()})"
