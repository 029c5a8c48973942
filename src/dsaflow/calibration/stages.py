"""The three stages: bandpass from a transit, gains of a tile, application to a new Measurement Set."""

from dsaflow.calibration.apply import apply_calibration
from dsaflow.calibration.solve_bandpass import solve_bandpass
from dsaflow.calibration.solve_gains import solve_gains

__all__ = ["apply_calibration", "solve_bandpass", "solve_gains"]
