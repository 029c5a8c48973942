rule flag:
    """Flag interference, dead antennas and outliers into a flag file beside the Measurement Set."""
    input:
        convert=rules.convert.output.verdict,
        manifest=rules.convert.output.manifest,
    output:
        flags=reported("flags", "Tiles"),
        verdict=reported("flag_verdict", "Tiles"),
    log:
        "<logs>/flag/{tile}.log",
    benchmark:
        "<benchmarks>/flag/{tile}.tsv"
    group:
        "prepare"
    conda:
        "../envs/science.yaml"
    params:
        ms=product("measurement_set"),
        options=options("flag"),
    script:
        "../scripts/flag.py"
