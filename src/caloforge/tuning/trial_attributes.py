"""Names of the user attributes of a trial in the storage of a study."""

from __future__ import annotations

# standard error of each objective, in their order: list[float]; absent if unknown
NOISE = "noise"
# number of the trial whose weights this one starts from; set by population-based training
PARENT = "parent"
# error message of a failed trial
REASON = "reason"
# failed attempts: list of {"ending", "fold", "reason", "seconds"}
ATTEMPTS = "attempts"
# the figures of each fold: list of {objective: value}
FOLDS = "folds"
