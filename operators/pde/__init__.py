"""Equations: one file per equation."""
