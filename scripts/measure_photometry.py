"""Rule measure_photometry: see dsaflow.photometry."""

from dsaflow.photometry.measure import measure_mosaic
from dsaflow.photometry.table import write_empty
from dsaflow.stage import run_stage

KEYS = ("image", "noise", "weight", "coverage", "subbands", "tiles", "qa")
planned = snakemake.params.planned

run_stage(
    snakemake,
    lambda config: measure_mosaic(
        {key: snakemake.input[key] for key in KEYS},
        snakemake.input.catalog,
        snakemake.output.photometry,
        config,
        planned["epoch"],
        planned["strip"],
        planned["group_id"],
        planned["mid_mjd"],
    ),
    upstream=[snakemake.input.mosaic],
    on_reject=lambda verdict: write_empty(snakemake.output.photometry),
)
