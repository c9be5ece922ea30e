"""Fidelity against resources: training showers, time of training, speed and size of the trained model."""
