"""Random changes of training patches: elastic, geometric and of the gray values."""
