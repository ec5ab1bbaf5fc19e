"""What can be wrong with an expression: its text, its types, or one evaluation of it."""

from typing import ClassVar


class CelError(Exception):
    """An expression that cannot be used, with the place in its source.

    `offset` and `length` count code points of the source; `hint` is "" or the nearest valid name.
    """

    phase: ClassVar[str] = "check"

    def __init__(self, message: str, *, offset: int = 0, length: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; did you mean {self.hint}?" if self.hint else self.message

    def at(self, source: str) -> tuple[int, int]:
        """Line and column of the error, both from 1."""
        before = source[: self.offset]
        return before.count("\n") + 1, self.offset - (before.rfind("\n") + 1) + 1

    def underlined(self, source: str) -> str:
        """The line of the error with the offending text underlined, ready to print."""
        line, column = self.at(source)
        text = source.split("\n")[line - 1]
        width = max(1, min(self.length, len(text) - column + 1))
        margin = "".join("\t" if character == "\t" else " " for character in text[: column - 1])
        return f"{line}:{column}: {self}\n  {text}\n  {margin}{'^' * width}"


class ParseError(CelError):
    """The text is no expression of the language."""

    phase = "parse"


class CheckError(CelError):
    """The expression names or combines what does not exist or does not fit."""


class EvaluationError(Exception):
    """One evaluation has no value: overflow, missing key, bad conversion, wrong dynamic type."""
