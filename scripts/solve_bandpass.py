"""Rule solve_bandpass: see dsaflow.calibration."""

from dsaflow.calibration.stages import solve_bandpass
from dsaflow.stage import run_stage

run_stage(
    snakemake,
    lambda config: solve_bandpass(
        snakemake.params.ms,
        snakemake.input.flags,
        snakemake.input.catalog,
        snakemake.input.calibrators,
        snakemake.output.solutions,
        config,
    ),
    upstream=[snakemake.input.convert, snakemake.input.flag],
)
