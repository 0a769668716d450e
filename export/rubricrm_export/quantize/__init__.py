"""Quantization: grids (what numbers can be stored), recipes (how they are chosen), one file each."""
