"""One self-contained page drawn from benchmark records."""

from .groups import Group, group_records
from .page import write_report

__all__ = ["Group", "group_records", "write_report"]
