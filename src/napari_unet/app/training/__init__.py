"""The parts of the use case in `napari_unet.app.train`, from opened labels to a judged model."""
