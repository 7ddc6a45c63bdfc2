"""`infopt cache`: the store of measurements."""

from __future__ import annotations

from pathlib import Path

import click


@click.group(short_help="Look at, move or forget what was measured.")
def cache() -> None:
    """Look at, move or forget what was measured on this machine (INFOPT_CACHE moves the store)."""


@cache.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_entries(as_json: bool) -> None:
    """Say where the store is and what is in it."""
    import json

    from planner.profiling.store import Store
    from planner.units import format_size

    store = Store()
    counts, size_bytes = store.counts(), store.path.stat().st_size
    store.close()
    if as_json:
        found = {"path": str(store.path), "size_bytes": size_bytes, "entries": counts}
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{store.path}  {format_size(size_bytes)}")
    for kind, count in sorted(counts.items()):
        click.echo(f"{count:8d}  {kind}")


@cache.command("clear")
@click.option("--kind", "kinds", multiple=True, help="Only entries of this kind (see `ls`).")
def clear(kinds: tuple[str, ...]) -> None:
    """Forget measurements; the next plan measures again."""
    from planner.profiling.store import Store
    from planner.steps.fused.tuning import forget_tuned

    store = Store()
    removed = store.remove(kinds or None)
    store.close()
    removed += forget_tuned() if not kinds or "tuned" in kinds else 0
    click.echo(f"{removed} entries forgotten")


@cache.command("export")
@click.argument("file", type=click.Path(path_type=Path))
def export_entries(file: Path) -> None:
    """Write every measurement to FILE, for machines of the same device."""
    from planner.profiling.exchange import export_measurements
    from planner.profiling.store import Store
    from planner.runtime.fingerprint import this_environment

    store = Store()
    count = export_measurements(store, file, this_environment())
    store.close()
    click.echo(f"{count} entries written to {file}")


@cache.command("import")
@click.argument("file", type=click.Path(path_type=Path))
def import_entries(file: Path) -> None:
    """Add the measurements of FILE; what was measured here stays as it is.

    FILE must come from the same device and version of ONNX Runtime (exit code 5).
    """
    from planner.profiling.exchange import import_measurements
    from planner.profiling.store import Store
    from planner.runtime.fingerprint import this_environment

    store = Store()
    found = import_measurements(store, file, this_environment())
    store.close()
    click.echo(f"{found.added} entries added, {found.known} were here already")
