"""Hyper-parameter optimisation: a study samples runs with Optuna, trains them on Ray and keeps the best."""
