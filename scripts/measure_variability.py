"""Rule measure_variability: see dsaflow.variability."""

from dsaflow.stage import run_stage
from dsaflow.variability.stage import run

PRODUCTS = (
    "light_curves",
    "epoch_scale",
    "metrics",
    "ese_candidates",
    "ese_candidates_ecsv",
    "ese_candidates_votable",
    "plots",
    "verdict",
)

run_stage(
    snakemake,
    lambda config: run(
        list(snakemake.input.photometry),
        {key: snakemake.output[key] for key in PRODUCTS},
        config,
        mosaic_paths=list(snakemake.input.mosaics),
    ),
)
