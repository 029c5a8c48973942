"""Rule draw_light_curves: see dsaflow.variability.plots."""

from dsaflow.stage import start_log
from dsaflow.variability.plots import draw_light_curves

start_log(snakemake.log[0])
draw_light_curves(snakemake.input.light_curves, snakemake.output.figure)
