"""Page numbers and running headers in documents whose pages were joined into one text.

What tells a page number from any other number is that the next one comes a page later; what tells
a running header from a line that merely recurs (单位：万元) is that it stands at every page's edge,
or, where pages carry no numbers, that it recurs as regularly as pages do.
"""

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from corpus.clean.lines import PAGE_NUMBER, RUNNING_HEADER


@dataclass(frozen=True)
class Line:
    """A line that may be page furniture."""

    index: int
    """Its place among the document's lines that hold something visible."""
    text: str
    numeric: bool
    """It may be a page number."""
    repeats: bool
    """It stood in the document before."""


# Certain by themselves: 第 3 页 共 20 页, Page 3 of 20, - 12 -.
_EXPLICIT = re.compile(
    r"^(?:[-—–~·\s]{0,3}第\s*\d{1,4}\s*页(?:\s*[,，/]?\s*[(（]?共\s*\d{1,4}\s*页[)）]?)?[-—–~·\s]{0,3}|"
    r"[-—–~]{1,2}\s*\d{1,4}\s*[-—–~]{1,2}|page\s+\d{1,4}(?:\s+of\s+\d{1,4})?)$",
    re.I,
)
# Page numbers if they count up: 12, 1-1-12, 12/300, F-12.
_COUNTED = re.compile(
    r"^(?P<before>(?:[0-9A-Za-z]{1,2}\s?[-—–－]\s?){0,3})(?P<number>\d{1,4})"
    r"(?P<after>\s*/\s*\d{1,4})?$"
)
_DASHES = re.compile(r"\s*[-—–－]\s*")

LONGEST_STEP = 6  # pages whose number was lost between two that were found
SHORTEST_CHAIN = 3  # numbers with something that marks them: 1-1-12
SHORTEST_BARE_CHAIN = 8  # numbers alone, which tables are full of
LINES_A_PAGE = 4  # on the average, at least
BARE_COVERAGE = 0.5  # of the document's lines lie between the first and the last page number
FEWEST_HEADERS = 4  # at page edges
EDGE_SHARE = 0.6  # of a header's occurrences stand at a page's edge
FEWEST_REGULAR = 8  # without page numbers
LARGEST_VARIATION = 0.6  # standard deviation of the distances over their mean
REGULAR_COVERAGE = 0.7


def page_furniture(lines: Sequence[Line], count: int) -> dict[int, str]:
    """The rule that removes a line, by its index, of a document of `count` visible lines."""
    removed: dict[int, str] = {}
    groups: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for line in lines:
        if not line.numeric:
            continue
        if _EXPLICIT.match(line.text):
            removed[line.index] = PAGE_NUMBER
        elif match := _COUNTED.match(line.text):
            before = _DASHES.sub("-", match["before"])
            after = "".join((match["after"] or "").split())
            groups[before, after].append((line.index, int(match["number"])))
    for (before, after), numbers in groups.items():
        chain = _counting_chain(numbers)
        if _is_pagination(chain, bare=not before and not after, count=count):
            removed.update(dict.fromkeys(chain, PAGE_NUMBER))
    removed.update(_headers(lines, removed, count))
    return removed


def _counting_chain(numbers: Sequence[tuple[int, int]]) -> list[int]:
    """The indices of the longest run of numbers that count up by small steps, in order."""
    best: dict[int, tuple[int, int]] = {}  # number -> (length, position) of the best run ending so
    previous: list[int | None] = []
    longest, last = 0, None
    for position, (_, number) in enumerate(numbers):
        length, link = 1, None
        for step in range(1, LONGEST_STEP + 1):
            run = best.get(number - step)
            if run is not None and run[0] + 1 > length:
                length, link = run[0] + 1, run[1]
        previous.append(link)
        if number not in best or length > best[number][0]:
            best[number] = (length, position)
        if length > longest:
            longest, last = length, position
    chain = []
    while last is not None:
        chain.append(numbers[last][0])
        last = previous[last]
    return chain[::-1]


def _is_pagination(chain: Sequence[int], bare: bool, count: int) -> bool:
    if len(chain) < (SHORTEST_BARE_CHAIN if bare else SHORTEST_CHAIN):
        return False
    span = chain[-1] - chain[0]
    if span < LINES_A_PAGE * (len(chain) - 1):
        return False
    return not bare or span >= BARE_COVERAGE * count


def _headers(lines: Sequence[Line], removed: dict[int, str], count: int) -> dict[int, str]:
    # Lines right before and right after each page number, and the ones beyond those: headers and
    # footers are of one or two lines.
    edges = {index + step for index in removed for step in (-2, -1, 1, 2)}
    occurrences: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        if line.repeats:
            occurrences[line.text].append(line.index)
    found: dict[int, str] = {}
    for places in occurrences.values():
        at_edges = sum(index in edges for index in places)
        if (
            at_edges >= FEWEST_HEADERS and at_edges >= EDGE_SHARE * len(places)
        ) or _recurs_like_pages(places, count):
            found.update(dict.fromkeys(places, RUNNING_HEADER))
    return {index: rule for index, rule in found.items() if index not in removed}


def _recurs_like_pages(places: Sequence[int], count: int) -> bool:
    if len(places) < FEWEST_REGULAR or places[-1] - places[0] < REGULAR_COVERAGE * count:
        return False
    distances = [after - before for before, after in pairwise(places)]
    mean = statistics.fmean(distances)
    if mean < LINES_A_PAGE:
        return False
    return statistics.pstdev(distances) <= LARGEST_VARIATION * mean
