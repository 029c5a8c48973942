"""Sources far outside a tile's field: found in its visibilities through the beam's sidelobes, and subtracted."""

from dsaflow.far.subtract import FarOptions, far_numbers, subtract_far

__all__ = ["FarOptions", "far_numbers", "subtract_far"]
