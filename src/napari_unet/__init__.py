"""U-Net segmentation for microscopy: larger than memory, in napari and without it.

Names are imported on first use: ``import napari_unet`` loads neither torch nor zarr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.app.segment import segment
    from napari_unet.app.train import train_model as train
    from napari_unet.model.unet import UNet

    __version__: str

__all__ = ["UNet", "__version__", "segment", "train"]


def __getattr__(name: str) -> object:
    # PEP 562: opening a menu or answering --help must not cost an import of torch.
    if name == "UNet":
        from napari_unet.model.unet import UNet

        return UNet
    if name == "segment":
        from napari_unet.app.segment import segment

        return segment
    if name == "train":
        from napari_unet.app.train import train_model

        return train_model
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-unet")
    raise AttributeError(f"module 'napari_unet' has no attribute {name!r}")
