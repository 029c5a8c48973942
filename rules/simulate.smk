rule simulate_night:
    """Write the UVH5 files of one simulated night into the incoming folder."""
    input:
        stations=CONFIG.paths.antennas,
    output:
        manifest=f"{SIMULATED}/night-{{epoch}}.json",
    log:
        "<logs>/simulate_night/{epoch}.log",
    benchmark:
        "<benchmarks>/simulate_night/{epoch}.tsv"
    conda:
        "../envs/science.yaml"
    params:
        options=options("simulate"),
    script:
        "../scripts/simulate_night.py"


rule simulate_truth:
    """Write the truth of the simulated nights, and the catalogue that is the truth spoilt."""
    input:
        stations=CONFIG.paths.antennas,
    output:
        manifest=f"{SIMULATED}/truth.json",
        catalog=f"{SIMULATED}/catalog.parquet",
    log:
        "<logs>/simulate_truth/truth.log",
    benchmark:
        "<benchmarks>/simulate_truth/truth.tsv"
    conda:
        "../envs/science.yaml"
    params:
        options=options("simulate"),
    script:
        "../scripts/simulate_truth.py"
