"""Training: losses, normalisers, one visible loop, models that are saved whole."""
