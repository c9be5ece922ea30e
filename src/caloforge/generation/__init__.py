"""Fast simulation: conditions in, showers out, streamed to a shower file."""
