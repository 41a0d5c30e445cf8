"""Recipes: which equation, where, with which solver; presets by name."""
