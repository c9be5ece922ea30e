"""Showers of many detectors that stand in for training showers of a new one, Eq. 26 to 29.

`hits.py` is how they are stored, `store.py` the files; `mesh_change.py` sums them into the cells of another
detector; `bin_sample.py`, `hit_scores.py` and `detector_family.py` describe what all detectors share and how
each differs; `transport.py` makes layer features of the new detector; `suitability.py` says for which.
"""
