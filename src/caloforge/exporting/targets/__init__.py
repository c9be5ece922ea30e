"""The export targets that come with caloforge, one file each."""
