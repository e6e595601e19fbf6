"""Connectors."""

import json
from pathlib import PurePosixPath

import click

from vv_exports.cli.commands import DONE, command, listing, open_client
from vv_exports.cli.findings import steps, told
from vv_exports.console import Console
from vv_exports.errors import ForbiddenError
from vv_exports.printable import one_line

_PURPOSES = {
    "deliver": "delivering needs",
    "verify": "`vv-exports verify` and readers need",
    "retention": "`vv-exports vacuum` needs, and deliveries that remove what they supersede",
}


@command(
    "list",
    click.option("--upstream", is_flag=True, help="Those that are registered at VideoVector, instead."),
)
def list_(console: Console, upstream: bool) -> None:
    """List connectors."""
    connectors = open_client().connectors
    if upstream:
        names = ("connector_id", "name", "provider", "status", "scopes", "export_base_path", "bucket", "container")
        listing(console, connectors.upstream(), names, empty="no connectors are registered at VideoVector")
        return
    listing(console, [vars(one) for one in connectors.list()], empty="no connectors are configured")


@command("test", click.argument("connector_id", metavar="ID"))
def test(console: Console, connector_id: str) -> int:
    """Try what deliveries need of a connector, step by step, and print the least-privilege policies."""
    connectors = open_client().connectors
    connector, policies = connectors.retrieve(connector_id), connectors.policies(connector_id)
    code, findings = told(console, connectors.test(connector_id))
    if console.as_json:
        console.document(
            {
                "connector_id": connector_id,
                "provider": connector.provider,
                "uri": connector.uri,
                "ok": code == DONE,
                "steps": steps(findings),
                "policies": policies,
            }
        )
    failed = next((finding for finding in findings if finding.outcome == "failed"), None)
    if failed is None or isinstance(failed.error, ForbiddenError):
        for purpose, policy in policies.items():
            console.line(f"\nThe least that {_PURPOSES[purpose]}:\n{json.dumps(policy, indent=2)}")
    if failed is not None:
        console.line(
            f"\nConnector {one_line(connector_id)} cannot be used yet: the step {failed.step!r} failed, see above."
        )
    return code


@command(
    "browse",
    click.argument("connector_id", metavar="ID"),
    click.option("--prefix", default="", metavar="P", help="Only what is below this folder."),
)
def browse(console: Console, connector_id: str, prefix: str) -> None:
    """List the files of a connector."""
    files = open_client().connectors.browse(connector_id, prefix)
    rows = [{"path": file.key, "name": PurePosixPath(file.key).name, "size_bytes": file.size} for file in files]
    listing(console, rows, empty=f"no files below {prefix!r}")


GROUP = click.Group("connectors", help="Connectors.", commands=[list_, test, browse])
