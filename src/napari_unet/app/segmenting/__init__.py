"""The parts of the use case in `napari_unet.app.segment` that make its result durable."""
