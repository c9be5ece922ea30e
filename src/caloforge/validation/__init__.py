"""Physics validation: comparison of shower files, with a report and a verdict."""

from caloforge.validation.in_memory import judge_batches
from caloforge.validation.thresholds import ThresholdSet, load_thresholds, threshold_sets
from caloforge.validation.validate import Result, validate_files

__all__ = ["Result", "ThresholdSet", "judge_batches", "load_thresholds", "threshold_sets", "validate_files"]
