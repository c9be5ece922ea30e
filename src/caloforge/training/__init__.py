"""Training: one explicit loop, exact checkpoints, a physics figure of merit that picks the best model."""
