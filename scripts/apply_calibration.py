"""Rule apply_calibration: see dsaflow.calibration."""

from dsaflow.calibration.stages import apply_calibration
from dsaflow.stage import beside, run_stage, usable

run_stage(
    snakemake,
    lambda config: apply_calibration(
        snakemake.params.ms,
        snakemake.input.flags,
        [beside(path, "bandpass") for path in usable(snakemake.input.bandpasses)],
        [beside(path, "gains") for path in usable(snakemake.input.gains)],
        snakemake.params.calibrated,
        config,
    ),
    upstream=[snakemake.input.convert, snakemake.input.flag],
    directory=snakemake.params.calibrated,
)
