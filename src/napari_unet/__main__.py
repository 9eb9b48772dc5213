"""``python -m napari_unet`` is the command ``napari-unet``."""

from napari_unet.cli.main import main

main()
