"""What `napari-unet doctor` looks at, one matter per module."""
