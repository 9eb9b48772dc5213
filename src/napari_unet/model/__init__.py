"""The network and its files; importing this package does not import torch."""
