"""Tiled prediction: read, compute and write at the same time, in bounded memory."""
