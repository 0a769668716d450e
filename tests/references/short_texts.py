"""Texts to calibrate and measure models of random weights on: their figures need no more."""

CALIBRATION = "Pack my box with five dozen liquor jugs; how vexingly quick daft zebras jump! 0123456789. " * 7
EVALUATION = "Sphinx of black quartz, judge my vow. " * 3
# Bytes are tokens of the made checkpoints.
IDS = [5 + byte for byte in CALIBRATION.encode()][:60]
