"""Showers in memory, in shower files (HDF5), and as a torch dataset (`dataset`)."""

from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile
from caloforge.showers.writer import ShowerWriter

__all__ = ["ShowerBatch", "ShowerFile", "ShowerWriter"]
