"""What went wrong, in a sentence that names the key and the value, what is allowed and what to do; and the exit code it means."""


class RaysynthError(Exception):
    """The root: anything that raysynth itself reports. Its message is the whole story; no traceback is shown for it."""

    exit_code = 1


class RecipeError(RaysynthError):
    """The recipe (or a command's argument) asks for something that cannot be."""

    exit_code = 2


class DataError(RaysynthError):
    """The input rows, or the files they lie in, are not what the recipe or an earlier stage says."""

    exit_code = 2


class UnreadableError(DataError):
    """A file of the input that cannot be read at all. Where others can, prepare leaves it out and says so."""


class StoreError(RaysynthError):
    """A URL cannot be read or written: wrong name, wrong credentials, or nobody answers."""

    exit_code = 2


class RuleError(RaysynthError):
    """The rules or `where` cannot be met within the attempts; no short data set is ever written instead."""

    exit_code = 2


class MissingExtraError(RaysynthError):
    """An optional package is not installed; the message says which `pip install 'raysynth[…]'` mends it."""

    exit_code = 2


class GateError(RaysynthError):
    """A score does not pass its gate; nothing was published."""

    exit_code = 3


class StoppedError(RaysynthError):
    """The work stopped part-way and can be resumed by the same command."""

    exit_code = 4


class SpentError(StoppedError):
    """A budget is spent within a task. Others, which may spend no more either, still end what they have begun."""


class CorruptRunError(RaysynthError):
    """Bytes in a run do not match the hashes that were committed."""

    exit_code = 2


class NondeterminismError(RaysynthError):
    """Two makers of one part produced different bytes."""
