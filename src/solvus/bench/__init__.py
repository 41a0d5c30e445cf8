"""Benchmark harness: cases, methods, timing rules, records, tables and honest comparisons."""

from .case import Case, Method, Options, Outcome, SystemCase, ours
from .compare import BreakEven, Comparison, break_even, compare
from .main import main
from .measure import Settings, measure
from .record import Environment, Record, environment, git_commit, read_records
from .table import print_comparisons, print_records

__all__ = [
    "BreakEven",
    "Case",
    "Comparison",
    "Environment",
    "Method",
    "Options",
    "Outcome",
    "Record",
    "Settings",
    "SystemCase",
    "break_even",
    "compare",
    "environment",
    "git_commit",
    "main",
    "measure",
    "ours",
    "print_comparisons",
    "print_records",
    "read_records",
]
