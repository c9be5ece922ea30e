"""Features of one shower by either layer sampler: the type of the tables tells which. Compiles nothing."""

from __future__ import annotations

from numba.extending import overload

from caloforge.models.layered.numba_backend.layer_flow import flow_features
from caloforge.models.layered.numba_backend.layer_sampler import draw_splice, splice_features
from caloforge.models.layered.numba_backend.weight_tables import FlowTables


def draw_features(tables, columns, particle, noise, spreads, features):
    """Draw the features of a shower, in compiled code only.

    Args:
        tables: `LayerTables` or `FlowTables`.
        columns: (at least 1,) of the shower, see `LayerSampler.columns`.
        particle: Index of the particle.
        noise: (at least the noise of the layer sampler,) standard normal.
        spreads: (size,) memory.
        features: (size,) filled.
    """
    raise NotImplementedError


@overload(draw_features)
def _draw_features(tables, columns, particle, noise, spreads, features):  # noqa: ARG001 - types
    if tables.instance_class is FlowTables:

        def learned(tables, columns, particle, noise, spreads, features):  # noqa: ARG001 - not by particle
            flow_features(tables, columns, noise, spreads, features)

        return learned

    def resampled(tables, columns, particle, noise, spreads, features):
        splice = draw_splice(tables, columns, particle, noise)
        splice_features(tables, columns, splice, spreads, features)

    return resampled
