"""Rule simulate_night: see dsaflow.simulate."""

from dsaflow.config import load_config
from dsaflow.fileio import write_json
from dsaflow.simulate.night import simulate_night
from dsaflow.stage import start_log

start_log(snakemake.log[0])
config = load_config(snakemake.config)
epoch = int(snakemake.wildcards.epoch)
tiles = simulate_night(config.simulate, epoch, config.paths.incoming, snakemake.input.stations)
write_json(snakemake.output.manifest, {"epoch": epoch, "tiles": tiles})
