"""Constants that tensors and compiled loops of the family share. Importing this does not import torch."""

from __future__ import annotations

# ---- layer sampler

# noise of the resampler: for the middle, the front and the back shower, and for the first joint
RESAMPLER_NOISE = 4
# leading principal directions in which the spliced parts are made to agree
LEADING = 3
# nearest neighbours of a stored shower, any of which may be spliced with it
NEIGHBOURS = 32
# fraction of the difference of two neighbours that is added to the leading coordinates
JITTER = 0.35
# range of the first joint, and distance of the second one behind it, as fractions of the layers
FIRST_JOINT, SPAN = (-0.12, 0.56), 0.44
# leading principal coordinates of the flow; knots of a table, largest normal score of a knot, intervals that
# give the slope of a tail; largest logarithm of a scale
FLOW_LEADING, FLOW_KNOTS, FLOW_LAST, FLOW_TAIL, LARGEST_LOG_SCALE = 4, 41, 2.5, 8, 3.0
# least cube root of the energy of a radial bin, MeV^(1/3): a generated one is above 0
LEAST_ROOT = 1e-2
# energy arguments, from -1 to 1, at which the windows of stored showers are tabulated
WINDOW_KNOTS = 65
# standard deviations that a normal number is multiplied by before it is folded into an interval
FOLD = 3.0
# degree of the polynomial of the energy argument in the mean of a feature
MEAN_DEGREE = 5
# number of quantiles of a feature, largest normal score of a quantile, largest normal score in use
KNOTS, LAST_SCORE, LARGEST_SCORE = 61, 3.0, 4.5
# features at the end of the vector: centre and depth covariance along x and y
POSITION_FEATURES = 4
# in place of the score of a number of hits that stays 0; scores below the second number stand for that, and
# become the last one, which is no hits wherever the axis of the shower is
EMPTY_SCORE, EMPTY_BELOW, EMPTY_ROOT = -32.0, -16.0, -1e3
# limit of a feature that has none
LEAST_FEATURE = -1e5
# least root of the number of hits of a bin that stays hit, in a window: a rounding must not make it none
ONE_HIT = 1.0001
# a radial bin without hits is empty because of the shower if at least this share of its cells is in the mesh
SEEN = 0.5
# bins of energy whose centres are no further apart than this are one
LEAST_GAP = 1e-6

# ---- windows around the axes of showers

# a remainder of half a cell, less a rounding, belongs to the next cell
ROUNDING = 1e-6
# with a smaller slope, as a fraction of the largest, the direction of the inclination is that of x
LEAST_SLOPE = 1e-3
# limit of the change of the logarithm of the energy from layer to layer
LARGEST_GROWTH = 1.5
# smallest share of a radial bin that its features are divided by
LEAST_SHARE = 0.05
# least sum that shares are relative to, and least half of a range of inclinations
LEAST_WHOLE, LEAST_HALF = 1e-12, 1e-3
# degrees of the polynomials of the energy argument in means and spreads of the features
AXIS_MEAN_DEGREE, AXIS_SPREAD_DEGREE = 5, 3
# terms of the polynomial of the remainder, and of the direction, Eq. 22
AXIS_TERMS, SLOPE_TERMS = 9, 9

# ---- cell sampler

# numbers of a vector
LANES = 16
# limits of log rate and of log sigma
LOG_RATE_RANGE = (-14.0, 6.0)
LOG_SIGMA_RANGE = (-5.0, 0.7)
# a Gumbel number, -log(-log(Phi(x))), in powers of the normal number x of the same quantile; within 0.003 up
# to 4.5, 0.02 up to 5.5
GUMBEL_FROM_NORMAL = (
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
# largest normal number that it is used for, and largest one that the skewness of residuals is used for
LARGEST_NORMAL, LARGEST_SKEWED = 5.5, 3.8
# subtracted from ratios to the last hit of a radial bin, so that it is above 0 itself; a factor instead could
# be merged with others by what simplifies graphs
ALMOST_ONE = 0.999999
# width of a kernel in cells, and of the inner part of it that is anisotropic
KERNEL, ANISOTROPY_KERNEL = 7, 5
# Legendre polynomials of the energy argument in the offsets
LEGENDRE_TERMS = 3
# orders of the azimuthal Fourier modes, each with cosine and sine
MODE_ORDERS = (1, 2)
MODES = 2 * len(MODE_ORDERS)
# modes come in from the same layer, and from those in front with weights that fall by these factors a layer
LAYER_DECAYS = (0.3, 0.8)
MODE_SOURCES = 1 + len(LAYER_DECAYS)
# normal scores of the first and last knot of the energy transform; mean and width of the cube root of a
# single particle's energy over the median; offset that keeps transformed energies of hits above 0
FIRST_KNOT, LAST_KNOT, ROOT_MEAN, ROOT_WIDTH, ROOT_OFFSET = -4.0, 3.2, 1.0, 0.365, 0.56
# transformed energy of the last knot; above it the cube root goes on
LARGEST_TRANSFORMED = ROOT_MEAN + ROOT_WIDTH * LAST_KNOT + ROOT_OFFSET
# degrees of the polynomials that lead back from the transformed energy, below the knot SPLIT and above
LOW_DEGREE, HIGH_DEGREE = 10, 8
