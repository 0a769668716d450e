"""Faults in directories for TensorRT that their readers accept in silence."""
