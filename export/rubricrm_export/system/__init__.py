"""The machine around an export: other programs, the GPU, progress, termination, directories that appear whole."""
