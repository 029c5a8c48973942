rule fetch_catalog:
    """Fetch the strip's reference catalogue (NVSS from VizieR), or take the configured one."""
    input:
        reference=(
            [CONFIG.paths.reference_catalog] if CONFIG.paths.reference_catalog else []
        ),
    output:
        catalog=reported("catalog", "Catalogue"),
        verdict=reported("catalog_verdict", "Catalogue"),
    log:
        "<logs>/fetch_catalog/{strip}.log",
    benchmark:
        "<benchmarks>/fetch_catalog/{strip}.tsv"
    conda:
        "../envs/science.yaml"
    params:
        region=lambda wildcards: PLAN.strip_region(wildcards.strip),
        options=options("catalog"),
    script:
        "../scripts/fetch_catalog.py"
