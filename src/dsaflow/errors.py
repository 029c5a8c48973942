"""Errors with reason codes: what is wrong with the data, the configuration or the machine."""

from enum import StrEnum


class ReasonCode(StrEnum):
    """Why an input or a product was rejected; these strings appear in verdicts, plans and reports."""

    ZERO_BYTE = "ZERO_BYTE"
    TRUNCATED_HDF5 = "TRUNCATED_HDF5"
    UNREADABLE = "UNREADABLE"
    SUBBANDS_MISSING = "SUBBANDS_MISSING"
    DUPLICATE_SUBBAND = "DUPLICATE_SUBBAND"
    TIME_MISMATCH = "TIME_MISMATCH"
    HEADER_MISMATCH = "HEADER_MISMATCH"
    BAD_DATA_NAN = "BAD_DATA_NAN"
    BAD_DATA_ZERO = "BAD_DATA_ZERO"
    ANTENNA_POSITIONS = "ANTENNA_POSITIONS"
    DECLINATION_CHANGED = "DECLINATION_CHANGED"
    WRONG_BAND = "WRONG_BAND"
    UPSTREAM_REJECTED = "UPSTREAM_REJECTED"
    NOTHING_FLAGGED = "NOTHING_FLAGGED"
    ALL_FLAGGED = "ALL_FLAGGED"
    NO_CALIBRATOR = "NO_CALIBRATOR"
    NO_BANDPASS = "NO_BANDPASS"
    NO_GAINS = "NO_GAINS"
    BAD_SOLUTIONS = "BAD_SOLUTIONS"
    TOO_FEW_SOURCES = "TOO_FEW_SOURCES"
    TOO_FEW_TILES = "TOO_FEW_TILES"
    NOISE_OUT_OF_RANGE = "NOISE_OUT_OF_RANGE"
    QA_REJECTED = "QA_REJECTED"
    NO_DATA = "NO_DATA"
    STRIPS_MIXED = "STRIPS_MIXED"


class DsaflowError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(DsaflowError):
    """The configuration is wrong; the message says which key and what to change."""


class EnvironmentProblem(DsaflowError):
    """The machine lacks something (a file, a program, network); the message says what to put where."""


class DataRejected(DsaflowError):
    """An input cannot be used: a result, not a failure (the rule writes a rejecting verdict).

    Parameters
    ----------
    code : ReasonCode
        Machine-readable reason.
    detail : str
        One sentence naming the file and the numbers.
    """

    def __init__(self, code: ReasonCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
