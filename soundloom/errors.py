"""One family of errors: everything Soundloom refuses, it refuses with a `SoundloomError` that teaches."""


class SoundloomError(ValueError):
    """Something was refused. The message names the value, the bound and the next step, on one line."""


class AudioError(SoundloomError):
    """A sound cannot be read or written."""


class BankError(SoundloomError):
    """A folder cannot be scanned, or a bank cannot be used."""


class ConfigError(SoundloomError):
    """A setting is unknown or out of its range."""


class ConditionError(SoundloomError):
    """A label, pitch or descriptor was asked for that the model does not know."""


class ModelError(SoundloomError):
    """A model folder is incomplete, foreign or damaged, or a family cannot do what was asked."""


class TrainingError(SoundloomError):
    """A run cannot start or go on."""


class DivergedError(TrainingError):
    """A loss became NaN or infinite; the last good state is kept."""


class InstrumentError(SoundloomError):
    """An instrument or its source cannot be read."""


class PictureError(SoundloomError):
    """A picture cannot be read, or nothing in it sounds."""


class ScoreError(SoundloomError):
    """A score or a MIDI file cannot be read."""


class StorageError(SoundloomError):
    """A folder cannot be written, or the disk is full."""


class DeviceError(SoundloomError):
    """A sound device or a MIDI port is not there, went away, or the library that talks to it is missing."""
