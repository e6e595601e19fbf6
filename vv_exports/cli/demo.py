"""The demo that a new deployment can start from."""

from pathlib import Path

from vv_exports.cli.commands import command
from vv_exports.console import Console


@command("demo")
def demo(console: Console) -> None:
    """Create the demo archive and vv_exports.yaml here."""
    from vv_exports.demo import write_demo

    summary = write_demo(Path.cwd())
    if console.as_json:
        console.document(summary)
    console.line(str(summary))
