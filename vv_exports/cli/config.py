"""The configuration."""

import os

import click

from vv_exports.cli.commands import command, read_config
from vv_exports.console import Console
from vv_exports.errors import ConfigurationError


@command("check")
def check(console: Console) -> None:
    """Read the configuration and report every problem in it, a key that is missing in the environment, and folders that
    are not there. Without a configuration that is the problem."""
    from vv_exports.config import (
        BEGIN,
        config_place,
        is_packaged_demo,
        key_problems,
        missing_folders,
        notification_problems,
    )
    from vv_exports.parts import open_parts

    if is_packaged_demo():
        raise ConfigurationError(config_place(), [f"there is no configuration to check; {BEGIN}"])
    loaded = read_config()
    open_parts(loaded)  # a provider whose packages are not installed is a problem too
    told = notification_problems(loaded.notifications, os.environ)
    if problems := [*key_problems(loaded, os.environ), *told]:
        raise ConfigurationError(config_place(), problems)
    automations_count = sum(len(index.automations) for index in loaded.indexes.values())
    warnings = missing_folders(loaded)
    if console.as_json:
        console.document({"ok": True, "file": config_place(), "warnings": warnings})
    console.line(
        f"{config_place()} is fine. Indexes: {len(loaded.indexes)}, automations: {automations_count}, "
        f"connectors: {len(loaded.connectors)}."
    )
    for warning in warnings:
        console.note(f"Warning: {warning}")


@command("schema")
def schema(console: Console) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from vv_exports.config import config_schema

    console.document(config_schema())


GROUP = click.Group("config", help="The configuration.", commands=[check, schema])
