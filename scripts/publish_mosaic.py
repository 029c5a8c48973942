"""Rule publish_mosaic: see dsaflow.publish."""

from dsaflow.config import load_config
from dsaflow.publish import publish_mosaic
from dsaflow.stage import start_log
