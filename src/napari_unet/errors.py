"""Every exception that napari-unet raises on purpose.

Each message says what was wrong, shows the value, and names the remedy. Classes
also inherit the builtin that describes them best, so ``except ValueError`` in a
notebook keeps working.
"""

from __future__ import annotations

__all__ = [
    "AnnotationError",
    "AxesError",
    "BackendError",
    "ConfigError",
    "InputError",
    "LockedError",
    "ModelFileError",
    "NonFiniteError",
    "OutOfMemoryError",
    "OutputExistsError",
    "StorageError",
    "TilingError",
    "TrainingError",
    "UNetError",
]


class UNetError(Exception):
    """Root of all errors raised on purpose; its text is fit to be shown as it is."""


class ConfigError(UNetError, ValueError):
    """An option or a job file holds a value that cannot be used."""


class TilingError(UNetError, ValueError):
    """A tile, block or region does not fit the network's geometry."""


class AxesError(UNetError, ValueError):
    """The axes or channels of an image are ambiguous or do not fit the model."""


class InputError(UNetError, OSError):
    """An image is missing, damaged, or of a kind that cannot be read."""


class ModelFileError(UNetError, OSError):
    """A model file is missing, damaged, hostile, or not one of ours."""


class StorageError(UNetError, OSError):
    """An output cannot be written or read back."""


class OutputExistsError(StorageError, FileExistsError):
    """An output is there already and was made with other options."""


class LockedError(StorageError):
    """Another process is at work on an output."""


class AnnotationError(UNetError, ValueError):
    """Labels that a person gave do not fit the image, the classes, or their kind."""


class BackendError(UNetError, RuntimeError):
    """The device or the numerical library refuses the work."""


class NonFiniteError(BackendError):
    """The network answers with NaN or infinity."""


class OutOfMemoryError(BackendError):
    """The device has not enough memory for a batch of tiles."""


class TrainingError(UNetError, ValueError):
    """A training set or its labels cannot be learnt from."""
