"""Rule solve_gains: see dsaflow.calibration."""

from dsaflow.calibration.stages import solve_gains
from dsaflow.stage import beside, run_stage, usable

run_stage(
    snakemake,
    lambda config: solve_gains(
        snakemake.params.ms,
        snakemake.input.flags,
        [beside(path, "bandpass") for path in usable(snakemake.input.bandpasses)],
        snakemake.input.catalog,
        snakemake.output.solutions,
        config,
    ),
    upstream=[snakemake.input.convert, snakemake.input.flag],
)
