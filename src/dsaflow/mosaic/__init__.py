"""Common grid, resampling and coaddition of tiles."""
