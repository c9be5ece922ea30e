"""Metrics between two samples of showers, each with its statistical uncertainty and its floor."""
