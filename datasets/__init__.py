"""Datasets: linear systems and fields in files."""
