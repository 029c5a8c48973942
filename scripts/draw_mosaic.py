"""Rule draw_mosaic: see dsaflow.report.mosaic."""

from dsaflow.report.beam import draw_beam
from dsaflow.report.mosaic import draw_mosaic
from dsaflow.stage import start_log

start_log(snakemake.log[0])
draw_mosaic(
    {key: snakemake.input[key] for key in ("image", "noise", "coverage", "qa")},
    snakemake.input.photometry,
    {key: snakemake.output[key] for key in ("mosaic", "fluxes", "astrometry", "gates", "noise")},
)
draw_beam(snakemake.input.beam_fit, snakemake.output.beam)
