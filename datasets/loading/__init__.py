"""Loading for training: folders as sources, pairs of tensors, metrics."""
