"""Campaigns in blocks: worker processes here or on a Ray cluster, and the folder of finished blocks."""
