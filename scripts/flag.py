"""Rule flag: see dsaflow.visibilities.flag."""

from dsaflow.stage import run_stage
from dsaflow.visibilities.flag import flag_tile

run_stage(
    snakemake,
    lambda config: flag_tile(snakemake.params.ms, snakemake.output.flags, config),
    upstream=[snakemake.input.convert],
)
