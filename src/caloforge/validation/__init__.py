"""Physics validation: shower files in, a report with a verdict out."""

from caloforge.validation.thresholds import ThresholdSet, load_thresholds, threshold_sets
from caloforge.validation.validate import Result, validate_files

__all__ = ["Result", "ThresholdSet", "load_thresholds", "threshold_sets", "validate_files"]
