"""Layer energies first, then cells: a copula for the layers, a convolution over noise for the cells."""
