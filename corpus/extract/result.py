"""What extraction makes of one document: its text and facts, or the reason why there is none."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Extracted:
    """One document's outcome."""

    text: str = ""
    """Markdown: tables as GitHub tables, formulas as LaTeX in dollars, code fenced."""
    title: str | None = None
    date: str | None = None
    """ISO 8601, as far as it is known."""
    url: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    """author, site, encoding, pages, …: what is known besides.

    `disclaimer_from`: the place in `text`, in signs, from which on it is disclaimers."""
    reason: str | None = None
    """The rule that drops the document; None where it is text."""
    message: str = ""
    """What a person needs to believe the reason."""
