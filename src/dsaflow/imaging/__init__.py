"""Weighting, gridding, deconvolution, restoring, beams."""
