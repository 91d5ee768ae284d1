"""What a core reports when it stops."""

from systolith_hw.isa import ERROR_TEXT, ErrorCode

__all__ = ["CoreError"]


class CoreError(Exception):
    """The core stopped at a command.

    Parameters
    ----------
    code : ErrorCode
        Why.
    index : int
        Position of the offending command in the program.
    """
    def __init__(self, code: ErrorCode | int, index: int):
        self.code = ErrorCode(code)
        self.index = index
        super().__init__(f"command {index}: {ERROR_TEXT[self.code]}")

    def __reduce__(self):
        return CoreError, (self.code, self.index)
