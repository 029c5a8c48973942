"""Rule qa_mosaic: see dsaflow.qa.mosaic."""

from dsaflow.qa.mosaic import qa_mosaic
from dsaflow.stage import run_stage

STAGES = ("convert", "flag", "gains", "calibrated", "tile_verdicts")
planned = snakemake.params.planned

run_stage(
    snakemake,
    lambda config: qa_mosaic(
        {key: snakemake.input[key] for key in ("image", "noise", "coverage", "tiles")},
        [path for stage in STAGES for path in snakemake.input[stage]],
        snakemake.input.catalog,
        config,
        planned["mid_mjd"],
        (planned["ra_deg"], planned["dec_deg"]),
        snakemake.input.beam_fit,
    ),
    upstream=[snakemake.input.mosaic],
)
