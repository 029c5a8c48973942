# Optional: asked for by name, `snakemake ... ese_completeness`; no part of `all`.
rule characterise_ese:
    """Efficiency and false alarms of the event search, in simulated seasons and in the strip's own."""
    input:
        light_curves=product("light_curves"),
    output:
        summary=reported("ese_characterisation", "Variability"),
        bounds=report(
            product("ese_bounds"),
            category="Variability",
            labels={"strip": "{strip}", "product": "ESE search: bounds"},
            caption="../docs/report/ese_bounds.rst",
        ),
        false_alarms=report(
            product("figure_ese_false_alarms"),
            category="Variability",
            labels={"strip": "{strip}", "product": "ESE search: false alarms"},
            caption="../docs/report/ese_false_alarms.rst",
        ),
        recovery=product("figure_ese_recovery"),
        scintillators=report(
            product("figure_ese_scintillators"),
            category="Variability",
            labels={"strip": "{strip}", "product": "ESE search: efficiency"},
            caption="../docs/report/ese_efficiency.rst",
        ),
    log:
        "<logs>/characterise_ese/{strip}.log",
    benchmark:
        "<benchmarks>/characterise_ese/{strip}.tsv"
    conda:
        "../envs/science.yaml"
    params:
        options=options("variability"),
    script:
        "../scripts/characterise_ese.py"


rule ese_completeness:
    """How much the event search of every strip finds, and how often it errs."""
    input:
        [
            product("ese_characterisation", strip=strip)
            for strip in sorted({mosaic.strip for mosaic in PLAN.mosaics})
        ],
