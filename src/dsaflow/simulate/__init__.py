"""The forward model: an independent oracle that shares no geometry or beam code with the pipeline."""
