"""The full simulation: Geant4 with the electromagnetic tables that come with caloforge."""
