"""Python that is copied into exported folders and runs there without caloforge."""
