"""What can go wrong, by name. Every message says what came, what was expected and what to do."""


class IQPError(Exception):
    """Base of every error this package raises on purpose: user-facing, safe to print without a traceback."""


def first_line(error: BaseException) -> str:
    """What an exception says, without the pages some libraries append, or the bytes they could not make sense of."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 400 else f"{line[:400]} ..."


class InputError(IQPError, ValueError):
    """An image or a parameter that cannot be used: wrong shape, type or range."""


class CheckpointError(IQPError):
    """A weight file that cannot be read, is not of a supported family, or does not fit its architecture."""


class MetricError(IQPError):
    """A quality metric that does not exist or cannot be run here."""


class WeightsNotFoundError(MetricError, CheckpointError, FileNotFoundError):
    """Weights that are not on this machine; the message names the file, the folder and the address."""


class OutputError(IQPError, OSError):
    """A result that could not be written."""


class TrainingError(IQPError):
    """A training run that cannot start or go on."""


class MissingPackageError(IQPError, ImportError):
    """An optional package that is not installed; the message has the command that installs it."""
