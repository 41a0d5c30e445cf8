"""Data on meshes, each sample with its own."""
