"""What is wrong with a file or a dataset."""
