"""An example of a package that adds one of each kind to caloforge."""
