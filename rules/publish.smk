rule publish_mosaic:
    """Publish a mosaic that passed its gates, atomically and with checksums, or say why not."""
    input:
        rules.make_mosaic.output,
        qa=rules.qa_mosaic.output.verdict,
    output:
        publication=report(
            product("publication"),
            category="Publication",
            labels={"mosaic": "{group_id}", "product": "publication"},
        ),
    log:
        "<logs>/publish_mosaic/{group_id}.log",
    benchmark:
        "<benchmarks>/publish_mosaic/{group_id}.tsv"
    conda:
        "../envs/science.yaml"
    group:
        "mosaic"
    params:
        options=options("publish"),
    script:
        "../scripts/publish_mosaic.py"
