"""Constants of the noise: the random words, and how bits of a word choose points of the table."""

# SplitMix64 (Steele, Lea, Flood 2014): what is added from word to word, then shifts and factors that mix
GAMMA = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
# points of the table
POINTS = 2**12
# bits of a word from one point's to the next one's
SHIFT = 16
