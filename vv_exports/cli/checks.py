"""What is checked of an index and its collections, as the Dagster UI shows it."""

from vv_exports.cli.commands import DONE, FAILED, INDEX, command, listing, open_client
from vv_exports.console import Console


@command("checks", INDEX)
def checks(console: Console, index: str) -> int:
    """Say how the checks of an index and its collections stand: what Dagster shows as asset checks. Exits with 1 where
    one has failed; warnings alone are no failure."""
    found = open_client().checks.list(index)
    rows = [one.document for one in found]
    if not console.as_json:
        rows = [{**row, "says": row["description"], "when": row["at"]} for row in rows]
    listing(console, rows, ("asset", "check", "outcome", "when", "says"), empty="")
    return FAILED if any(row["outcome"] == "failed" for row in rows) else DONE
