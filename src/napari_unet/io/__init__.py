"""Images in, labels out: lazily, box by box, without torch; see `image` and `ome_zarr_writer`."""
