"""acclimate cache: what the cache of prepared samples and frozen activations holds, and how to clear it."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--clear", is_flag=True, help="remove everything in it")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout")
def cache(clear: bool, as_json: bool) -> int:
    """Show the cache; it is safe to clear at any time: what is missing is computed again.

    ACCLIMATE_CACHE names its folder, ACCLIMATE_CACHE_GB limits its size.
    """
    from acclimate.engine.store import Store

    store = Store()
    removed = store.trim(0) if clear else 0
    shown = {
        "folder": str(store.folder),
        "chunks": len(store.files()),
        "bytes": store.size(),
        "limit": store.limit,
        "removed": removed,
    }
    if as_json:
        click.echo(json.dumps(shown))
        return 0
    if clear:
        click.echo(f"removed {removed / 1e6:,.1f} MB")
    click.echo(
        f"{shown['folder']}: {shown['chunks']:,} chunks, {store.size() / 1e6:,.1f} MB of at most {store.limit / 1e9:,.1f} GB"
    )
    return 0
