"""Public interface of solvus, gathered from its four parts."""
