"""The command ``napari-unet``: arguments in, text out, nothing else."""
