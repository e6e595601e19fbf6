"""How the configuration file is found, read and checked."""

import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
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
BEGIN = "`vv-exports init` begins a deployment of your own here, and `vv-exports demo` writes the demo's files"
_MOST_PROBLEMS = 200
_LOG = logging.getLogger(__name__)


def load_config(
    path: Path | None = None, environ: Mapping[str, str] | None = None, further: Mapping[str, Any] | None = None
) -> Config:
    """Read the configuration: ``path``, else the file that ``VV_EXPORTS_CONFIG`` names, else
    ``./vv_exports.yaml``, else the packaged demo configuration, whose paths start at the working directory.
    ``further`` are indexes that are described elsewhere, as they would stand in the file.

    Raises:
        ConfigurationError: with every problem of the file, each with its place, the value, what is allowed.
    """
    found = _found(path, os.environ if environ is None else environ)
    if found.is_demo:
        _LOG.warning("this is %s; %s", found.where, BEGIN)
    text = text_of(read_file(found.file, found.where), found.where)
    file = found.file if isinstance(found.file, Path) and not found.is_demo else None
    return parse_config(text, folder=found.folder, where=found.where, file=file, further=further)


def dagster_project(path: Path | None = None) -> tuple[Path, Path] | None:
    """The file that ``load_config`` reads, and the Dagster project that it names, where it names one."""
    found = _found(path, os.environ)
    if not isinstance(found.file, Path) or found.is_demo or not found.file.is_file():
        return None
    text = text_of(read_file(found.file, found.where), found.where)
    if "dagster_project" not in text:  # nearly always, and a large file takes long to parse
        return None
    named = Document().read(text, found.where).get("dagster_project")
    return (found.file, found.folder / Path(named).expanduser()) if isinstance(named, str) else None


def indexes_in(file: Path) -> frozenset[str]:
    """The ids under ``indexes`` in a file, whether what stands there is right or wrong."""
    declared = Document().read(text_of(read_file(file, str(file)), str(file)), str(file)).get("indexes")
    return frozenset(declared) if isinstance(declared, dict) else frozenset()


def read_file(file: Path | Traversable, where: str) -> bytes:
    """The bytes of a configuration file. Raises ConfigurationError."""
    try:
        return _read(file, where)
    except OSError as error:
        raise ConfigurationError(where, [f"cannot be read: {error}"]) from error


def text_of(data: bytes, where: str) -> str:
    """The text that a file holds, without its byte order mark. Raises ConfigurationError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"it is no text in UTF-8 ({error.reason} at byte {error.start:,}); save it as UTF-8"
        raise ConfigurationError(where, [f"cannot be read: {problem}"]) from error


def parse_config(
    text: str, *, folder: Path, where: str, file: Path | None = None, further: Mapping[str, Any] | None = None
) -> Config:
    """The configuration in a YAML text.

    Args:
        text: the YAML document.
        folder: what relative paths are relative to.
        where: the text's name in messages.
        file: the file that the text is of, where it is of one.
        further: indexes that are described elsewhere, by their ids.

    Raises:
        ConfigurationError: with every problem of the text.
    """
    document = Document()
    data = document.read(text, where)
    if further:
        here = data.get("indexes") or {}
        data["indexes"] = {**here, **further} if isinstance(here, dict) else here
    context = {"folder": folder.absolute(), "file": None if file is None else file.absolute()}
    problems, unsaid = document.problems, 0
    try:
        parts: Destinations = Config.model_validate(data, context=context)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        unsaid = len(errors[_MOST_PROBLEMS:])
        problems += map(problem, errors[:_MOST_PROBLEMS])
        parts = Destinations.model_validate(without_faulty(data, errors), context=context)
    declared = data.get("connectors") or {}
    declared = declared if isinstance(declared, dict) else {}
    indexes = resolved(parts, declared, problems, where if further else "this file")
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
    return _found(None, os.environ if environ is None else environ).where


def is_packaged_demo(environ: Mapping[str, str] | None = None) -> bool:
    """Whether ``load_config`` finds no file, and reads the demo configuration of the package."""
    return _found(None, os.environ if environ is None else environ).is_demo


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


@dataclass(frozen=True)
class _Found:
    """The file to read, the folder that its relative paths are relative to, and how to speak of it."""

    file: Path | Traversable
    folder: Path
    where: str
    is_demo: bool = False


def _found(path: Path | None, environ: Mapping[str, str]) -> _Found:
    if path:
        return _Found(path, path.parent, str(path))
    if named := environ.get(ENVIRONMENT_VARIABLE):
        return _Found(Path(named), Path(named).parent, f"{named} (from {ENVIRONMENT_VARIABLE})")
    usual = Path(FILE_NAME)
    # A dangling link is a file that went missing, which must not start the demo instead.
    if usual.exists() or usual.is_symlink():
        return _Found(usual, usual.parent, str(usual))
    demo = resources.files("vv_exports") / "demo" / FILE_NAME
    where = f"the packaged demo configuration (there is no {FILE_NAME} in {Path.cwd()})"
    return _Found(demo, Path.cwd(), where, is_demo=True)
