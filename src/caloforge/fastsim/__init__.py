"""Fast simulation inside Geant4: a trained model takes particles at a gate in front of the calorimeter."""
