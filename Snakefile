"""DSA-110 drift-scan continuum pipeline: UVH5 to mosaics, light curves and ESE candidates."""

from snakemake.utils import min_version

# 9.5.1 to 9.14.7 lost configuration defaults in remote jobs; before 9.14.1 `retries` re-ran
# inside the same SLURM allocation.
min_version("9.14.8")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/simulate.smk"
include: "rules/catalog.smk"
include: "rules/convert.smk"
include: "rules/flag.smk"
include: "rules/calibrate.smk"
include: "rules/image.smk"
include: "rules/mosaic.smk"
include: "rules/qa.smk"
include: "rules/publish.smk"
include: "rules/photometry.smk"
include: "rules/variability.smk"
include: "rules/characterise.smk"
include: "rules/report.smk"


report: "docs/report/workflow.rst"


localrules:
    all,
    mosaics,
    photometry,
    simulation,
    ese_completeness,


rule all:
    """Everything that the data in the incoming folder allow."""
    default_target: True
    input:
        mosaic_targets("publication"),
        mosaic_targets("photometry"),
        variability_targets(),
        report_targets(),


rule mosaics:
    """Every planned mosaic, judged and published or withheld."""
    input:
        mosaic_targets("publication"),


rule photometry:
    """Forced photometry of every planned mosaic."""
    input:
        mosaic_targets("photometry"),


rule simulation:
    """The simulated nights, their truth and the spoilt catalogue (configuration section `simulate`)."""
    input:
        simulation_targets(),
