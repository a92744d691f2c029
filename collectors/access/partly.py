"""A reading of which one part could not be had: the rest is shown, and its collector says what is missing."""

from typing import Any


class PartialReading(Exception):
    """`reading` has what could be read; `word` is the reason as a label, the message a sentence."""

    def __init__(self, message: str, reading: Any, word: str) -> None:
        super().__init__(message)
        self.reading = reading
        self.word = word
