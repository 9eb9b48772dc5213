"""A model's card: what its file says about it, and where it comes from. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.app.model_store import lineage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.app.models import ModelEntry, ModelInventory


def card_lines(
    entry: ModelEntry, inventory: ModelInventory | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the lines of a card: what each is about, and its text, which may be empty.

    Parameters
    ----------
    entry : ModelEntry
        The model.
    inventory : ModelInventory or None
        The models among which its ancestors are looked for; None = those that there are now.

    Yields
    ------
    tuple of str
        A title, empty where a line goes on with the one before, and a text.
    """
    header, origin = entry.header, entry.header.provenance
    net, seen = header.architecture, header.input
    yield "file", str(entry.path)
    yield "sha256", entry.sha256
    yield "classes", ", ".join(f"{k}={c.name}" for k, c in header.labels().items())
    yield "input", ", ".join(seen.channels)
    if seen.voxel_size is not None:
        yield "pixels", " x ".join(f"{v:g}" for v in seen.voxel_size) + f" {seen.unit or ''}"
    if seen.context:
        yield "context", f"{seen.context} slices before and after each slice"
    yield "network", f"depth {net.depth}, {net.base_channels} base channels, norm {net.norm}"
    yield "data", origin.data
    seed = "" if origin.seed is None else f"seed {origin.seed}"
    yield "recipe", ", ".join(part for part in (origin.recipe, seed) if part)
    yield "made", origin.created
    yield "with", ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    yield from _ancestors(entry, inventory)
    yield "measured", origin.score_conditions
    for key, value in origin.scores.items():
        yield "", f"{key} = {value:.4f}"
    yield "license", header.license


def _ancestors(entry: ModelEntry, inventory: ModelInventory | None) -> Iterator[tuple[str, str]]:
    for item in lineage(entry, inventory):
        here = f"here as {item.entry.name}" if item.entry else "not among the models here"
        yield "from", f"{item.name}, sha256 {item.sha256[:12]}..., {here}"
