"""Resampled layer features and a learned conditional density of cells.

`features.py` describes each layer of a shower by a few numbers; `layer_sampler.py` draws them by splicing the
features of training showers that are nearest neighbours; `cell_sampler.py` draws all cells given the features
in one pass. `numba_backend` does the same as compiled loops. Equations are those of
docs/explanation/layered.md, and its symbols have the same names here.
"""
