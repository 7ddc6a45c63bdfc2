"""`infopt serve`: an engine on the Open Inference Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from planner.cli.console import tell

if TYPE_CHECKING:
    import socket


@click.command(short_help="Serve an engine over HTTP.")
@click.argument("engine", default="engine", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, envvar="INFOPT_HOST")
@click.option(
    "--port", default=8000, show_default=True, envvar="INFOPT_PORT", type=click.IntRange(0, 65535)
)
def serve(engine: Path, host: str, port: int) -> None:
    """Serve ENGINE over HTTP (Open Inference Protocol v2) until interrupted."""
    from planner import serve as protocol

    run_server(engine, protocol.reserve(host, port))


def run_server(engine: Path, place: socket.socket) -> None:
    """Serves at a reserved place until Ctrl-C or SIGTERM; closes it."""
    from planner import serve as protocol

    def say(url: str, name: str) -> None:
        tell(f"serving at {url}: POST {url}/v2/models/{quote(name)}/infer")

    protocol.serve(engine, place=place, ready=say)
