"""Benchmark of the time per shower: full simulation, published networks, frozen library, trained models."""

from caloforge.timing.compare import Plan, compare
from caloforge.timing.tables import markdown_table, text_table

__all__ = ["Plan", "compare", "markdown_table", "text_table"]
