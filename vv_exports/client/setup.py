"""A deployment that is begun: its configuration, put together step by step, each step tried before anything is written.

What the command `init` asks people, programs decide by themselves.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vv_exports.client.automations import AutomationFields
from vv_exports.config import Change, Config, edited, parse_config
from vv_exports.config.file import replace_file
from vv_exports.config.loading import ENVIRONMENT_VARIABLE, FILE_NAME
from vv_exports.connectors.check import check_connector
from vv_exports.connectors.configured import open_connectors
from vv_exports.defs.instance import WORKSPACE, has_history, settings_beside
from vv_exports.domain.destinations import check_subpath
from vv_exports.domain.findings import Finding
from vv_exports.domain.names import hashed_name
from vv_exports.domain.prompt_runs import Index, JsonObject
from vv_exports.errors import ConfigurationError, DestinationError, RequestError, VVExportsError
from vv_exports.parts import open_source
from vv_exports.pipeline import Pipeline
from vv_exports.printable import one_line
from vv_exports.sources.base import Platform, Source
from vv_exports.sources.check import both_deliver

STORAGE = ".vv_exports/storage"
_BEGIN = """\
# What this deployment exports, and where to. `vv-exports config check` tells every problem in this file,
# `vv-exports config schema` prints its JSON Schema for editors.
# Relative paths start at the folder of this file. Secrets never stand here: what ends in _env names an environment
# variable that holds one.

# Where prompt runs are read.
source:

# Where the pipeline keeps its own copies of prompt runs (snapshots) and the downloads.
storage: .vv_exports/storage

# Storage accounts. Nothing is ever written outside <root or bucket>/<export_base_path>.
connectors: {}

# The indexes to follow. Each automation keeps one collection up to date, in a folder that belongs to it alone:
# <root or bucket>/<export_base_path>/<destination_subpath>, by default the index id.
indexes: {}
"""


@dataclass(frozen=True)
class WrittenFile:
    """A file of a deployment. ``outcome`` is ``written``, ``replaced``, or ``kept`` where one was there already."""

    path: str
    outcome: str
    note: str = ""


class NewDeployment:
    """The configuration of a folder, before it is written.

    Its file is the one that ``VV_EXPORTS_CONFIG`` names, else ``vv_exports.yaml`` in ``folder``: the one that commands
    read there. Raises RequestError where it is there already and may not be replaced.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False, environ: Mapping[str, str] = os.environ) -> None:
        self.file = Path(environ.get(ENVIRONMENT_VARIABLE) or folder / FILE_NAME).absolute()
        self._overwrite = overwrite
        if not overwrite and (self.file.exists() or self.file.is_symlink()):
            raise RequestError(
                f"{self.file} is there already, and is left as it is. `vv-exports automations set`, `connectors set` "
                "and `indexes add` change it; --overwrite replaces it"
            )
        self.text = _BEGIN
        self._made: list[Path] = []
        self.borrowed: list[str] = []
        """Environment variables that were given a value for this process alone."""

    @property
    def config(self) -> Config:
        """What there is of it so far. Raises ConfigurationError."""
        return parse_config(
            self.text, folder=self.file.parent, where=f"{self.file}, as it would be (nothing was written)"
        )

    @cached_property
    def _source(self) -> Source:
        return open_source(self.config)

    def close(self) -> None:
        """Close the connections of the source. A folder that was made for what came to nothing goes again."""
        if "_source" in vars(self):
            self._source.close()
        for root in () if self.file.exists() else self._made:
            with suppress(OSError):  # something is in it by now
                root.rmdir()

    def read_from(self, source: Mapping[str, Any]) -> None:
        """Set the source, with the fields of the configuration. Raises ConfigurationError."""
        self.close()
        vars(self).pop("_source", None)
        for name, value in source.items():
            if value is not None:
                self._change(("source", name), value)

    def check_source(self) -> Iterator[Finding]:
        """Try the source, reading only, step by step."""
        return self._source.check([])

    def indexes(self) -> list[Index]:
        """The indexes that the source has."""
        return self._source.indexes()

    def add_connector(self, connector_id: str, fields: Mapping[str, Any]) -> None:
        """Add a connector. Raises ConfigurationError."""
        given = {name: value for name, value in fields.items() if value is not None}
        self._change(("connectors", connector_id), {**given, "scopes": given.get("scopes", ["export"])})

    def check_connector(self, connector_id: str) -> Iterator[Finding]:
        """Try what deliveries need of a connector, leaving nothing behind."""
        return check_connector(Pipeline.from_config(self.config).connectors[connector_id])

    def make_root(self, connector_id: str) -> Path | None:
        """Make the folder of a local connector, where it is not there. Returns it where it was made."""
        config = self.config.connector(connector_id)
        root = Path(getattr(config, "root", "")) if config.provider == "local" else None
        if root is None or root.exists():
            return None
        try:
            root.mkdir(parents=True)
        except OSError as error:
            problem = f"connectors.{connector_id}.root: {str(root)!r} cannot be made: {error.strerror}"
            raise ConfigurationError(str(self.file), [problem]) from error
        self._made.append(root)
        return root

    def follow(self, index_id: str, automation: str | None = None, fields: Mapping[str, Any] | None = None) -> None:
        """Follow an index, with an automation. Raises ConfigurationError."""
        if automation is None or fields is None:
            self._change(("indexes", index_id), {})
            return
        given = {name: value for name, value in fields.items() if value is not None}
        if "destination_subpath" not in given and (instead := _subpath_instead_of(index_id)) is not None:
            given["destination_subpath"] = instead
        ordered = {name: given[name] for name in AutomationFields.__annotations__ if name in given}
        self._change(("indexes", index_id, "automations", automation), ordered)

    def platform_connectors(self) -> list[str]:
        """The connectors that are registered at the platform; none where the source is no platform."""
        found = self._source.upstream_connectors() if isinstance(self._source, Platform) else []
        return [str(one.get("connector_id")) for one in found]

    def take_over(self, index_ids: Sequence[str], automation: str, fields: Mapping[str, Any]) -> Iterator[str]:
        """Take over the platform's connectors, and its export automations of these indexes, which get ``fields`` beside
        their own. Says what cannot be taken over, and what is to be set. Raises RequestError for a source that is no
        platform."""
        source = self._source
        if not isinstance(source, Platform):
            raise RequestError(
                f"the source is a {self.config.source.kind}, which has no connectors and automations of its own; leave "
                "out --from-platform"
            )
        for record in source.upstream_connectors():
            yield from self._take_over_connector(record)
        for index_id in index_ids:
            yield from self._take_over_automation(source, index_id, automation, fields)

    def _take_over_connector(self, record: JsonObject) -> Iterator[str]:
        connector_id, provider = str(record.get("connector_id")), record.get("provider")
        name = f"connector {one_line(connector_id)} of VideoVector"
        fields = {field: record[field] for field in _TAKEN.get(str(provider), ()) if record.get(field)}
        secrets, how = _secrets(connector_id, str(provider))
        before = self.text
        try:
            self._change(("connectors", connector_id), {"provider": provider, **fields, **secrets})
            open_connectors({connector_id: self.config.connector(connector_id).model_dump()})
        except VVExportsError as error:
            self.text = before
            yield f"{name} is not taken over: {error}"
            return
        yield f"{name} is taken over without its secret, which VideoVector does not give away: {how}"
        if record.get("status") not in {None, "active"}:
            yield f"{name} is {one_line(str(record['status']))} there"

    def _take_over_automation(
        self, source: Platform, index_id: str, automation: str, fields: Mapping[str, Any]
    ) -> Iterator[str]:
        name = f"VideoVector's export automation of index {one_line(index_id)}"
        before = self.text
        try:
            found = source.upstream_automation(index_id)
            if found is None:
                self.follow(index_id)
                yield f"index {one_line(index_id)} has no export automation at VideoVector; it is followed without one"
                return
            taken: dict[str, Any] = {
                "enabled": found.enabled,
                "paused": found.paused,
                "destination_connector_id": found.destination_connector_id,
                "destination_subpath": found.destination_subpath,
            }
            self.follow(index_id, automation, {**fields, **taken})
            _ = self.config
        except VVExportsError as error:
            self.text = before
            self.follow(index_id)
            yield f"{name} is not taken over: {error}"
            return
        if found.active:
            yield both_deliver(index_id, found)

    def missing_variables(self) -> Iterator[str]:
        """What to say of the environment variables that the configuration names and that commands will miss."""
        config = self.config
        for one in (config.source, *config.connectors.values()):
            for field, name in one.model_dump().items():
                if field.endswith("_env") and name is not None and (name in self.borrowed or name not in os.environ):
                    yield f"set the environment variable {name} ({field}) before the next command"

    def write(self) -> list[WrittenFile]:
        """Write the configuration, and beside it what Dagster reads. Of the latter, what is there stays, unless all may
        be replaced. Raises ConfigurationError with every problem of it; then nothing is written."""
        _ = self.config
        folder = self.file.parent
        folder.mkdir(parents=True, exist_ok=True)
        written = [self._written(self.file, self.text)]
        if has_history(folder):
            note = f"not written, since the history of this folder is in {folder / '.dagster'} already"
            written.append(WrittenFile(str(folder / "dagster.yaml"), "kept", note))
        else:
            written.append(self._written(folder / "dagster.yaml", settings_beside()))
        written.append(self._written(folder / WORKSPACE.name, WORKSPACE.read_text()))
        return written

    def _written(self, file: Path, text: str) -> WrittenFile:
        try:
            with file.open("x", encoding="utf-8") as new:
                new.write(text)
        except FileExistsError:
            before = file.read_bytes()
            if before == text.encode():
                return WrittenFile(str(file), "kept", "it is the same")
            if not self._overwrite:
                return WrittenFile(str(file), "kept", "it is there already; --overwrite replaces it")
            replace_file(file, before=before, after=text.encode())
            return WrittenFile(str(file), "replaced")
        except OSError as error:
            raise ConfigurationError(str(file), [f"cannot be written: {error}"]) from error
        return WrittenFile(str(file), "written")

    def _change(self, path: tuple[str, ...], value: Any) -> None:
        self.text = edited(self.text, [Change(path, value)], str(self.file))


_TAKEN = {
    "s3": ("bucket", "region", "export_base_path", "scopes"),
    "gcs": ("bucket", "export_base_path", "scopes"),
    "azure": ("storage_account", "container", "export_base_path", "scopes"),
}
"""What a platform's connector and one of ours have in common, by the provider."""


def _secrets(connector_id: str, provider: str) -> tuple[dict[str, str], str]:
    """The fields that name where a connector's secret is, and what to do about it."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in connector_id).upper()
    if provider == "s3":
        key, secret = f"VV_{name}_ACCESS_KEY_ID", f"VV_{name}_SECRET_ACCESS_KEY"
        return {"access_key_id_env": key, "secret_access_key_env": secret}, f"set {key} and {secret}"
    if provider == "gcs":
        file = f"VV_{name}_CREDENTIALS_FILE"
        return {"credentials_file_env": file}, f"set {file} to the path of the service account's key file"
    return {}, "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"


def _subpath_instead_of(index_id: str) -> str | None:
    """A folder for an index whose id cannot be one; None where it can."""
    try:
        check_subpath(index_id, boundary="")
    except DestinationError:
        return hashed_name(index_id)
    return None
