"""Training of a model: loop, checkpoints, data-parallel strategies, model selection by a figure of merit."""
