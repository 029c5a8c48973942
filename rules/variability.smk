rule measure_variability:
    """Join all epochs of a strip: epoch flux scale, light curves, metrics, ESE candidates."""
    input:
        photometry=strip_mosaics("photometry"),
        # only for the candidates' cut-outs: a few pixels of a few of them are read
        mosaics=strip_mosaics("mosaic_image"),
        efficiency=(
            [CONFIG.variability.efficiency_table]
            if CONFIG.variability.efficiency_table
            else []
        ),
    output:
        light_curves=reported("light_curves", "Variability"),
        epoch_scale=reported("epoch_scale", "Variability"),
        metrics=reported("metrics", "Variability"),
        ese_candidates=reported("ese_candidates", "Variability"),
        ese_candidates_ecsv=report(
            product("ese_candidates_ecsv"),
            category="Variability",
            labels={"strip": "{strip}", "product": "ESE candidates"},
            caption="../docs/report/candidates.rst",
        ),
        ese_candidates_votable=reported("ese_candidates_votable", "Variability"),
        plots=report(
            directory(product("candidate_plots")),
            patterns=["{name}.png"],
            category="Variability",
            labels={"strip": "{strip}", "product": "{name}"},
            caption="../docs/report/candidate.rst",
        ),
        verdict=reported("variability_verdict", "Variability"),
    log:
        "<logs>/measure_variability/{strip}.log",
    benchmark:
        "<benchmarks>/measure_variability/{strip}.tsv"
    conda:
        "../envs/science.yaml"
    params:
        options=options("variability"),
    script:
        "../scripts/measure_variability.py"
