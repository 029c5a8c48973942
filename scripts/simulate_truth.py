"""Rule simulate_truth: see dsaflow.simulate."""

from pathlib import Path

from dsaflow.config import load_config
from dsaflow.fileio import write_json
from dsaflow.simulate.truth import write_reference_catalog, write_truth
from dsaflow.stage import start_log

start_log(snakemake.log[0])
settings = load_config(snakemake.config).simulate
folder = Path(snakemake.output.manifest).parent
write_reference_catalog(settings, snakemake.output.catalog)
summary = write_truth(settings, folder, snakemake.input.stations)
write_json(snakemake.output.manifest, summary)
