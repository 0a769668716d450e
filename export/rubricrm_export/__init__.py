"""Exports a checkpoint to a bundle: reads, quantizes, measures and writes. May import rubricrm, never the reverse."""
