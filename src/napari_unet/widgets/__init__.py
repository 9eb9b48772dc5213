"""The only floor that knows napari and Qt: panels, layers, and the engine's process."""
