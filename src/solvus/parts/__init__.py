"""How `solvus train` makes the learned parts of linear solvers: one file per kind of part."""
