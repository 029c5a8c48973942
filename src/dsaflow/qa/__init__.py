"""Quality control: gates, each a measured value, its limits and a verdict."""
