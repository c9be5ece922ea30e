"""What a trial carries besides its parameters: names of the user attributes in the study's storage."""

from __future__ import annotations

# standard error of each objective, in their order: list[float]; absent where it is not known
NOISE = "noise"
# number of the trial whose weights this one starts from; a sampler sets it (population-based training)
PARENT = "parent"
# why the trial failed, a sentence
REASON = "reason"
# what happened before the last attempt: list of {"reason", "seconds"}
ATTEMPTS = "attempts"
# the figures of each fold: list of {objective: value}
FOLDS = "folds"
