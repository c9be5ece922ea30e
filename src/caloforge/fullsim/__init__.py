"""Full simulation with Geant4 and caloforge's own electromagnetic tables."""
