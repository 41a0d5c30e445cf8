"""File formats: The Well's (ours), PDEBench's, tensors, own arrays; opening and converting."""
