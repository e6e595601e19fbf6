"""Connectors."""

import json
from pathlib import PurePosixPath
from typing import Any

import click

from vv_exports.cli import changes
from vv_exports.cli.commands import DONE, command, listing, open_client
from vv_exports.cli.findings import steps, told
from vv_exports.console import Console
from vv_exports.errors import ForbiddenError
from vv_exports.printable import one_line

FIELDS = (
    click.option("--root", metavar="FOLDER", help="local: the folder."),
    click.option("--export-base-path", metavar="P", help="The boundary inside the store that no export leaves."),
    click.option("--scopes", multiple=True, metavar="S", help="export, import; repeat for both. A new one has export."),
    click.option("--bucket", metavar="B", help="s3, gcs: the bucket."),
    click.option("--region", metavar="R", help="s3: the bucket's region."),
    click.option("--endpoint-url", metavar="URL", help="The address of another store than the provider's own."),
    click.option("--access-key-id-env", metavar="NAME", help="s3: the environment variable with the key's id."),
    click.option("--secret-access-key-env", metavar="NAME", help="s3: the environment variable with the secret key."),
    click.option("--session-token-env", metavar="NAME", help="s3: the environment variable with a session token."),
    click.option("--sse", metavar="SSE", help="s3: AES256 or aws:kms."),
    click.option("--kms-key-id", metavar="KEY", help="s3: the KMS key, with --sse aws:kms."),
    click.option("--path-style/--no-path-style", default=None, help="s3: whether the bucket is named in the path."),
    click.option(
        "--credentials-file-env", metavar="NAME", help="gcs: the environment variable with the key file's path."
    ),
    click.option("--anonymous/--no-anonymous", default=None, help="gcs: whether to ask without credentials."),
    click.option("--storage-account", metavar="A", help="azure: the storage account."),
    click.option("--container", metavar="C", help="azure: the container."),
    click.option("--account-key-env", metavar="NAME", help="azure: the environment variable with the account's key."),
    click.option(
        "--connection-string-env", metavar="NAME", help="azure: the environment variable with a connection string."
    ),
    click.option("--sas-token-env", metavar="NAME", help="azure: the environment variable with a SAS token."),
)
"""The fields of connectors, of whatever provider."""
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


@command(
    "set",
    click.argument("connector_id", metavar="ID"),
    click.option("--provider", metavar="P", help="local, s3, gcs or azure."),
    *FIELDS,
    changes.default_option("region, endpoint_url, …"),
    changes.DRY_RUN,
)
def set_(console: Console, connector_id: str, *, defaults: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Add a connector to the configuration's file, or change what is named of one. No secret: names of environment
    variables."""
    fields = changes.fields_of(options, defaults)
    changes.told(console, open_client().connectors.set(connector_id, dry_run=dry_run, **fields))


GROUP = click.Group("connectors", help="Connectors.", commands=[list_, set_, test, browse])
