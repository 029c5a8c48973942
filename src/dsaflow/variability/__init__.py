"""Light curves, variability metrics, and the search for extreme scattering events."""
