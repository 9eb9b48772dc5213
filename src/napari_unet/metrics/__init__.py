"""How good a segmentation is: scores with stated conventions, no torch."""
