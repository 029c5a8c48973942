rule convert:
    """Turn the 16 UVH5 subbands of a tile into one Measurement Set on its meridian centre."""
    input:
        files=tile_files,
        stations=CONFIG.paths.antennas,
    output:
        manifest=reported("ms_manifest", "Tiles"),
        verdict=reported("convert_verdict", "Tiles"),
    log:
        "<logs>/convert/{tile}.log",
    benchmark:
        "<benchmarks>/convert/{tile}.tsv"
    group:
        "prepare"
    conda:
        "../envs/science.yaml"
    params:
        ms=product("measurement_set"),
        options=options("convert"),
    script:
        "../scripts/convert.py"
