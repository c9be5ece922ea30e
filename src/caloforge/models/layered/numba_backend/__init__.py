"""The layered family as machine code compiled by Numba, the fastest backend on a CPU."""
