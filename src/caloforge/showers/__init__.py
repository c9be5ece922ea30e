"""Showers: in memory, in the shower file, and (in `dataset`) as a torch Dataset."""

from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile, ShowerWriter

__all__ = ["ShowerBatch", "ShowerFile", "ShowerWriter"]
