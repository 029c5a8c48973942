"""Rule convert: see dsaflow.visibilities.convert."""

from dsaflow.instrument import read_stations
from dsaflow.stage import run_stage
from dsaflow.visibilities.convert import convert_tile

run_stage(
    snakemake,
    lambda config: convert_tile(
        list(snakemake.input.files),
        snakemake.params.ms,
        config,
        read_stations(snakemake.input.stations),
    ),
    directory=snakemake.params.ms,
)
