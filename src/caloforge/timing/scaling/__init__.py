"""Scaling of distributed training: measurement, projection to many nodes, published results."""
