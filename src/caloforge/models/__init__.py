"""Generative models: one package per family, with the modules config, presets, network and model."""
