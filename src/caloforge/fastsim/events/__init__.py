"""Simulation of generated events: particles of HepMC or EDM4hep files in, calorimeter hits out."""
