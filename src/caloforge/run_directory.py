"""Names of what lies in a run directory, the only interface between the verbs.

`caloforge.training.directory` decides when what is there may be made, continued or replaced.
"""

from __future__ import annotations

# the run as it was given, and as it was understood
RUN, RESOLVED = "run.yaml", "resolved.yaml"
# lines of the training, and what trackers keep
METRICS, TRACKERS = "metrics.jsonl", "trackers"
CHECKPOINTS = "checkpoints"
# the model directory: its description for programs, and its card for people; the weights are named by digest
MODEL, CARD, README = "model", "model.json", "README.md"
# held by the process that trains
LOCK = ".lock"
# an earlier training on its way there or back, and put aside
MOVING, REPLACED = ".replacing", ".replaced"
# a launcher that starts a job anew must not take the training it replaces for its own
FORCED = ".force"
# what a training writes
OWN = (CHECKPOINTS, MODEL, METRICS, RESOLVED, RUN)
