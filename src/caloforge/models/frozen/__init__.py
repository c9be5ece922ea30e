"""Frozen-shower library: rescaled showers of the full simulation, the baseline for learned models."""
