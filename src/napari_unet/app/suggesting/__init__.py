"""The parts of the use case in `napari_unet.app.suggest`: where to paint next."""
