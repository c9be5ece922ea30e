"""Numbers that tensors and compiled loops of the family share. Importing this does not import torch."""

from __future__ import annotations

# ---- first stage

# numbers of noise: the shower in the middle, those in front and behind, where they are joined
CHOICES = 4
# principal directions in which parts are made to agree
LEADING = 3
# showers that are most like a donor, any of which may be joined to it
RELATIVES = 32
# share of the difference of two relatives that is added to the leading coordinates
JITTER = 0.35
# the first joint lies anywhere between these, the second so far behind it; shares of the layers
FIRST_JOINT, SPAN = (-0.12, 0.56), 0.44
# arguments at which the donors of about an energy are tabulated, from -1 to 1
RUNGS = 65
# standard deviations to which a normal number is stretched before it is folded into an interval
FOLD = 3.0
# powers of the argument of the energy in the mean of a number of the summary
MEAN_DEGREE = 5
# quantiles at these normal scores, and the largest score that is used
KNOTS, LAST_SCORE, LARGEST_SCORE = 61, 3.0, 4.5
# numbers at the end of a summary: centre and slope along x and y
TRANSVERSE = 4

# ---- second stage

# numbers that a processor takes at once
LANES = 16
# limits of log lambda and of the log width of a hit's coordinate
LOG_NUMBER_RANGE = (-14.0, 6.0)
WIDTH_RANGE = (-5.0, 0.7)
# -log(-log(Phi(x))) in powers of the normal number x: what has its distribution function Phi(x) for x is
# Gumbel's; within 0.003 up to 4.5, 0.02 up to 5.5
GUMBEL_OF_NORMAL = (
    0.36577549,
    1.15075293,
    0.20515486,
    0.0327618,
    0.00244822,
    -0.00040238,
    -8.081e-05,
    3.78e-06,
    1.05e-06,
)
# largest normal number that it is used for, and that the skewness of hits is used for
LARGEST_NORMAL, LARGEST_SKEWED = 5.5, 3.8
# leaves the last hit of a zone above it; as a factor it would be taken for one by what simplifies graphs
ALMOST_ONE = 0.999999
# cells a kernel is wide, and the part of it that knows of the direction from the axis
KERNEL, TURNED_KERNEL = 7, 5
# polynomials of the energy that levels are made of
TERMS = 3
# periods of a wave around the axis, each with cosine and sine
PERIODS = (1, 2)
WAVES = 2 * len(PERIODS)
# a layer hears of itself, and of those in front of it: by such a factor less with each layer
FADE = 0.3
SOURCES = 2
# normal scores of the first and last knot of the spectrum; mean and width of the cube root of a
# single-particle energy in units of its median; what keeps the weakest hit's coordinate above that of no hit
FIRST_KNOT, LAST_KNOT, CENTRE, WIDTH, OFFSET = -4.0, 3.2, 1.0, 0.365, 0.56
# coordinate of the last knot; the cube root goes on from there
LARGEST_COORDINATE = CENTRE + WIDTH * LAST_KNOT + OFFSET
# back from the coordinate: degrees of the polynomial below the MIP peak and of the one above
WEAK_DEGREE, STRONG_DEGREE = 10, 8
# bins of energy no further apart than this are one
NEAR = 1e-6
