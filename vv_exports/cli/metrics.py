"""Figures for Prometheus."""

import threading
from pathlib import Path

import click

from vv_exports.cli.commands import command, open_client
from vv_exports.console import Console
from vv_exports.errors import RequestError


@command(
    "metrics",
    click.option(
        "--to", type=click.Path(path_type=Path, dir_okay=False), help="The file to replace, for a textfile collector."
    ),
    click.option("--serve", metavar="HOST:PORT", help="Answer scrapes at this address until stopped with Ctrl-C."),
    click.option(
        "--every",
        type=click.FloatRange(min=1),
        default=60,
        show_default=True,
        metavar="SECONDS",
        help="How often what is served is read anew.",
    ),
)
def metrics(console: Console, to: Path | None, serve: str | None, every: float) -> None:
    """Tell in Prometheus' text format what is due, held, failing and paused, what was delivered and when, of each
    automation: on stdout, into a file, or at an endpoint. Nothing is asked of the source."""
    if to is not None and serve is not None:
        raise RequestError("--to writes a file and --serve answers scrapes: choose one")
    if serve is not None:
        _serve(console, *_address(serve), every)
        return
    client = open_client()
    if to is not None:
        size = client.metrics.write(to)
        if console.as_json:
            console.document({"path": str(to), "bytes": size})
        console.line(f"{to} ({size:,} bytes)")
    elif console.as_json:
        console.document({"text": client.metrics.text()})
    else:
        console.line(client.metrics.text().rstrip("\n"))


def _serve(console: Console, host: str, port: int, every: float) -> None:
    with open_client().metrics.served(host, port, every) as address:
        if console.as_json:
            console.document({"address": address})
        console.note(f"Figures are at {address}, read anew every {every:g} seconds.")
        threading.Event().wait()


def _address(given: str) -> tuple[str, int]:
    host, colon, port = given.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise RequestError(f"--serve {given!r} is no address: write it as 127.0.0.1:9464")
    return host.strip("[]"), int(port)
