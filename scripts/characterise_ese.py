"""Rule characterise_ese: see dsaflow.characterise."""

from pathlib import Path

from dsaflow.characterise.run import Size, characterise
from dsaflow.config import load_config
from dsaflow.stage import start_log

start_log(snakemake.log[0])
options = load_config(snakemake.config).variability
characterise(
    Path(snakemake.output.summary).parent,
    options,
    Size(workers=snakemake.threads),
    options.seed,
    observed=Path(snakemake.input.light_curves),
)
