"""Rule fetch_catalog: see dsaflow.catalog."""

from dsaflow.catalog import fetch_catalog
from dsaflow.stage import run_stage

region = snakemake.params.region

run_stage(
    snakemake,
    lambda config: fetch_catalog(
        region["dec_deg"],
        tuple(region["ra_range_deg"]),
        config,
        snakemake.output.catalog,
    ),
)
