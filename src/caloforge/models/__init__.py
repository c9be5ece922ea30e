"""Generative models. One folder a family, with the same files: config, presets, network, model."""
