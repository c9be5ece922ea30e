"""How long a shower takes: full simulation, published networks, frozen library and our models, in one run."""

from caloforge.timing.compare import Plan, compare
from caloforge.timing.tables import markdown_table, text_table

__all__ = ["Plan", "compare", "markdown_table", "text_table"]
