"""One module per group of metrics. Each has a tuple METRICS, which `metrics.registry` collects."""
