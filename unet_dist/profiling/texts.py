"""Texts of files that somebody else wrote: names of kernels, shapes, links.

A trace may be made to harm: texts without end would fill the memory, control characters would
command the terminal that shows them, and half a surrogate pair cannot be written to any file.
"""

LONGEST = 1 << 16
"""Characters that are kept; the shapes of a kernel over hundreds of tensors are some thousands."""
MOST_TEXTS = 500_000
"""Different ones that are told apart; of more, all others are called ``OTHER``."""
MOST_CHARACTERS = 1 << 28
"""Of all of them together."""
OTHER = "other"


def plain(text: str) -> str:
    """What can be shown and written: one line of it, and no more than ``LONGEST``."""
    text = text[:LONGEST]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


class Codes:
    """Numbers for texts, in the order in which they came."""

    def __init__(self, *first: str) -> None:
        self._numbers = {text: number for number, text in enumerate(first)}
        self._kept = list(first)
        self._characters = 0

    def __call__(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None and len(text) > LONGEST:
            text = text[:LONGEST]
            number = self._numbers.get(text)
        if number is None:
            self._characters += len(text)
            if len(self._kept) >= MOST_TEXTS or self._characters > MOST_CHARACTERS:
                return self._other()
            number = self._numbers[text] = len(self._kept)
            self._kept.append(plain(text))
        return number

    def _other(self) -> int:
        if OTHER not in self._numbers:
            self._numbers[OTHER] = len(self._kept)
            self._kept.append(OTHER)
        return self._numbers[OTHER]

    @property
    def texts(self) -> tuple[str, ...]:
        """By their numbers."""
        return tuple(self._kept)
