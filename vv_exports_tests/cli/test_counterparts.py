"""Whatever the command line can do, Python can do: the client's names, and no way around them."""

import ast
import inspect
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import click
import pytest

import vv_exports.cli
from vv_exports.cli import main
from vv_exports.client.anywhere import log_schema, provenance_at
from vv_exports.client.automations import AutomationFields
from vv_exports.client.connectors import ConnectorFields
from vv_exports.client.notifications import data_schema
from vv_exports.client.setup import NewDeployment
from vv_exports.config import config_schema, load_config
from vv_exports.demo import write_demo
from vv_exports_tests.deployments import client_of

SOURCES = sorted(Path(vv_exports.cli.__file__).parent.glob("*.py"))

COUNTERPARTS = {
    "source check": "source.check",
    "runs list": "prompt_runs.list",
    "runs sync": "prompt_runs.sync",
    "runs prune": "prompt_runs.prune",
    "export index": "exports.create_index_export",
    "export run": "exports.create_prompt_run_export",
    "exports list": "exports.list",
    "exports show": "exports.retrieve",
    "exports download": "exports.download",
    "exports delete": "exports.delete",
    "exports vacuum": "exports.vacuum",
    "status": "status",
    "metrics": "metrics.text",
    "automations list": "automations.list",
    "automations show": "automations.retrieve",
    "automations history": "automations.history",
    "automations set": "automations.set",
    "automations remove": "automations.remove",
    "automations pause": "automations.pause",
    "automations resume": "automations.resume",
    "automations run": "automations.run",
    "backfill": "automations.backfill",
    "connectors list": "connectors.list",
    "connectors set": "connectors.set",
    "connectors test": "connectors.test",
    "indexes add": "indexes.add",
    "indexes list": "indexes.list",
    "indexes sync": "indexes.sync",
    "reload": "reload",
    "ui": "ui",
    "connectors browse": "connectors.browse",
    "tables list": "tables.list",
    "tables rebuild": "tables.rebuild",
    "tables drop": "tables.drop",
    "verify": "verify",
    "checks": "checks.list",
    "vacuum": "vacuum",
    "sql": "automations.sql",
    "report": "automations.report",
    "erase": "erasure.erase",
    "notifications test": "notifications.test",
    "notifications list": "notifications.list",
    "notifications send": "notifications.send",
}
OPTIONS = {
    ("export index", "dry_run"): "exports.plan",
    ("export run", "dry_run"): "exports.plan",
    ("export index", "to"): "exports.download",
    ("export run", "to"): "exports.download",
    ("automations pause", "dry_run"): "automations.plan_switch",
    ("automations resume", "dry_run"): "automations.plan_switch",
    ("runs sync", "dry_run"): "prompt_runs.plan_sync",
    ("automations run", "dry_run"): "automations.plan_run",
    ("automations run", "every"): "automations.run_all",
    ("backfill", "dry_run"): "automations.plan_backfill",
    ("backfill", "in_daemon"): "automations.backfill_in_daemon",
    ("connectors list", "upstream"): "connectors.upstream",
    ("vacuum", "abandoned"): "vacuum_abandoned",
    ("sql", "engine"): "automations.sql",
    ("report", "to"): "automations.report",
    ("metrics", "to"): "metrics.write",
    ("metrics", "serve"): "metrics.served",
    ("metrics", "every"): "metrics.served",
    ("provenance", "index"): "provenance.of_run",
    ("verify", "name"): "repairs.verify",
    ("verify", "repair"): "repairs.repair",
    ("verify", "dry_run"): "repairs.plan",
    ("erase", "lists"): "erasure.list",
    ("erase", "undoes"): "erasure.undo",
}
"""Flags that ask for something else, which has a name of its own."""
BEFORE_THE_CLIENT = {
    "demo": write_demo,
    "init": NewDeployment,
    "config check": load_config,
    "config schema": config_schema,
    "log schema": log_schema,
    "provenance": provenance_at,
    "notifications schema": data_schema,
}
"""What there is without a deployment: it makes one, is about the configuration's file, which ``VVExports()`` checks
too, or about a delivery or an event that somebody received."""
SAID = {
    "index": {"index_id"},
    "run": {"run_id"},
    "run_ids": {"run_ids", "prompt_run_ids"},
    "name": {"automation"},
    "view": {"views"},
    "target": {"connector_id", "target"},
    "connector_id": {"connector_id", "destination_connector_id"},
    "subpath": {"subpath", "destination_subpath"},
    "format_name": {"format"},
    "include": {"fields"},
    "exclude": {"fields"},
}
"""Options whose name in Python is another: the SDK's."""


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return client_of(tmp_path_factory.mktemp("client"))


def test_every_command_has_a_counterpart_in_python(client):
    assert COUNTERPARTS.keys() | BEFORE_THE_CLIENT.keys() == COMMANDS.keys()
    for name in (*COUNTERPARTS.values(), *OPTIONS.values()):
        assert callable(attrgetter(name)(client)), name


@pytest.mark.parametrize("command", COUNTERPARTS)
def test_what_a_command_takes_its_counterpart_takes(client, command):
    takes = inspect.signature(attrgetter(COUNTERPARTS[command])(client)).parameters.keys()
    asked = {str(param.name) for param in COMMANDS[command].params} - {"as_json", "debug"}
    if "fields" in takes and "set" in command:  # all fields of the entry, by their names in the configuration
        takes |= {"destination_connector_id", *AutomationFields.__annotations__, *ConnectorFields.__annotations__}
        asked -= {"defaults", "cron", "timezone", "delta"}  # None, the two halves of `schedule`, a part of `tables`
    missing = {name for name in asked if (command, name) not in OPTIONS and not SAID.get(name, {name}) & takes}
    assert missing == set()


def test_no_command_reaches_around_the_client():
    """Whoever reads a command sees what to call from Python."""
    assert {path.stem for path in SOURCES} >= {"automations", "connectors", "destinations", "exports", "runs", "source"}
    around = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "pipeline"
    ]
    assert around == []
