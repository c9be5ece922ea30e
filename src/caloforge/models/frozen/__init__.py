"""Frozen library: showers of the full simulation, taken again. The baseline of every learned model."""
