"""Constants of the noise: the generator SplitMix64, and which bits of its words index the table."""

# SplitMix64 (Steele, Lea, Flood 2014): increment of the state, then factors and shifts of the mixing function
GAMMA = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
# points of the table, indexed by 12 bits
POINTS = 2**12
# the indices of the four points of a word start at bits 0, 16, 32 and 48
SHIFT = 16
