"""Rule draw_tile: see dsaflow.report.tile."""

from dsaflow.report.tile import draw_tile
from dsaflow.stage import beside, start_log, usable

start_log(snakemake.log[0])
KEYS = ("flag", "gains", "image", "residual", "beam", "verdict")
bandpasses = [beside(path, "bandpass") for path in usable(snakemake.input.bandpasses)]
draw_tile(
    {key: snakemake.input[key] for key in KEYS},
    bandpasses,
    {key: snakemake.output[key] for key in ("flagging", "bandpass", "tile")},
)
