rule measure_variability:
    """Join all epochs of a strip: epoch flux scale, light curves, metrics, ESE candidates."""
    input:
        photometry=strip_photometry,
    output:
        light_curves=product("light_curves"),
        epoch_scale=product("epoch_scale"),
        metrics=product("metrics"),
        ese_candidates=product("ese_candidates"),
        ese_candidates_ecsv=report(
            product("ese_candidates_ecsv"),
            category="Variability",
            labels={"strip": "{strip}", "product": "ESE candidates"},
            caption="../docs/report/candidates.rst",
        ),
        plots=report(
            directory(product("candidate_plots")),
            patterns=["{name}.png"],
            category="Variability",
            labels={"strip": "{strip}", "product": "{name}"},
            caption="../docs/report/candidate.rst",
        ),
        verdict=product("variability_verdict"),
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
