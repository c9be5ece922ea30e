"""Showers: in memory, in the shower file, and (in `dataset`) as a torch Dataset."""

from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile
from caloforge.showers.writer import ShowerWriter

__all__ = ["ShowerBatch", "ShowerFile", "ShowerWriter"]
