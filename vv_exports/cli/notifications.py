"""Notifications: trying targets, what is still to be sent, sending it now, the form of what is sent."""

import click

from vv_exports.cli.commands import DONE, FAILED, WRONG_REQUEST, command, listing, open_client
from vv_exports.console import Console
from vv_exports.errors import RequestError
from vv_exports.printable import counted


@command("test", click.argument("target", required=False))
def test(console: Console, target: str | None) -> int:
    """Send a test message to a target of the configuration; without TARGET, to each."""
    tried = open_client().notifications.test(target)
    if console.as_json:
        console.document(
            [
                {
                    "target": one.target,
                    "outcome": one.outcome,
                    "sent_to": one.sent_to,
                    "error": one.error and str(one.error),
                }
                for one in tried
            ]
        )
    for one in tried:
        console.line(
            f"{one.target}: sent to {one.sent_to}" if one.error is None else f"{one.target}: FAILED. {one.error}"
        )
    errors = [one.error for one in tried if one.error is not None]
    if any(isinstance(error, RequestError) for error in errors):
        return WRONG_REQUEST
    return FAILED if errors else DONE


@command("list")
def list_(console: Console) -> None:
    """List messages that did not arrive yet, and the last ones that were given up."""
    rows = [vars(one) for one in open_client().notifications.list()]
    names = ("index_id", "automation", "event", "at", "target", "state", "attempts", "again_at", "problem")
    listing(console, rows, names, empty="every message has arrived")


@command("send")
def send(console: Console) -> int:
    """Tell what is new of all automations, and send again what did not arrive: where no Dagster daemon does it."""
    done = open_client().notifications.send()
    if console.as_json:
        console.document(done)
    console.line(f"{counted(done.sent, 'message')} sent")
    for target, problem in done.problems.items():
        console.line(f"{target}: not told, which is tried again: {problem}")
    return FAILED if done.problems else DONE


@command("schema")
def schema(console: Console) -> None:
    """Print the JSON Schema of an event's data."""
    from vv_exports.client.notifications import data_schema

    console.document(data_schema())


GROUP = click.Group(
    "notifications", help="Telling people and programs of deliveries.", commands=[test, list_, send, schema]
)
