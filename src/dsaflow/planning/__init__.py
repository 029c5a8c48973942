"""Planning: which files make a tile, which tiles make a mosaic; frozen for one run (law 1)."""

from dsaflow.planning.make import CalibratorList, frozen_plan, load_calibrators, make_plan
from dsaflow.planning.plan import Gap, Plan, PlannedMosaic, PlannedTile, Skipped, describe_plan

__all__ = [
    "CalibratorList",
    "Gap",
    "Plan",
    "PlannedMosaic",
    "PlannedTile",
    "Skipped",
    "describe_plan",
    "frozen_plan",
    "load_calibrators",
    "make_plan",
]
