"""Snakemake's `--logger dsaflow`: every run goes into the run record (dsaflow.runs.handler)."""

from logging import INFO, LogRecord
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.base import LogHandlerBase

if TYPE_CHECKING:
    from dsaflow.runs.handler import Recorder

# What a person sees only on demand.
UNSHOWN = frozenset(["shellcmd", "debug_dag", "rulegraph"])


class LogHandler(LogHandlerBase):
    """Hands each message to the run record; shows nothing."""

    recorder: "Recorder"

    def __post_init__(self) -> None:
        # every Snakemake process loads every logger plugin, also one that uses none
        from dsaflow.runs.handler import LOG, Recorder, keep_logs

        LOG.addFilter(keep_logs)
        self.recorder = Recorder(enabled=not self.common_settings.dryrun)

    def emit(self, record: LogRecord) -> None:
        """Take one message of Snakemake's log."""
        shown = str(getattr(record, "event", None)) not in UNSHOWN and record.levelno >= INFO
        self.recorder.handle(record, self._line(record) if shown else "")

    def _line(self, record: LogRecord) -> str:
        try:
            return self.format(record)
        except Exception:  # the text is for a person only
            return ""

    def close(self) -> None:
        """Settle the run."""
        self.recorder.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """It shows nothing."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """Its files are none of Snakemake's business."""
        return False

    @property
    def has_filter(self) -> bool:
        """It needs all messages, whatever `quiet:` says."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Lines are as Snakemake shows them."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """Not needed."""
        return False
