"""The vocabulary: axes, boxes, tiles, settings and events; pure and exact, no I/O."""
