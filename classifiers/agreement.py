"""Annotations of several people: how far they agree, and the labels that follow."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Annotation:
    """What one person said of one text; `labels` are sorted, and none of them holds a `|`."""

    doc_id: str
    annotator: str
    labels: tuple[str, ...]
    text: str
    lang: str
    source: str


def cohen_kappa(left: Sequence[str], right: Sequence[str]) -> float:
    """Cohen's kappa (1960) of two people's labels for the same texts; 1 where all are one label."""
    if not left or len(left) != len(right):
        raise ValueError("two sequences of the same length, and not empty")
    observed = sum(a == b for a, b in zip(left, right, strict=True)) / len(left)
    first, second = Counter(left), Counter(right)
    chance = sum(first[label] * second[label] for label in first) / len(left) ** 2
    return 1.0 if chance == 1.0 else (observed - chance) / (1 - chance)


def fleiss_kappa(labels_of_texts: Sequence[Sequence[str]]) -> float:
    """Fleiss' kappa (1971) of texts that the same number (two or more) of people labelled."""
    raters = len(labels_of_texts[0]) if labels_of_texts else 0
    if raters < 2 or any(len(labels) != raters for labels in labels_of_texts):
        raise ValueError("every text needs the same number of labels, two or more")
    total: Counter[str] = Counter()
    observed = 0.0
    for labels in labels_of_texts:
        counts = Counter(labels)
        total.update(counts)
        observed += sum(n * (n - 1) for n in counts.values()) / (raters * (raters - 1))
    observed /= len(labels_of_texts)
    everything = sum(total.values())
    chance = sum((n / everything) ** 2 for n in total.values())
    return 1.0 if chance == 1.0 else (observed - chance) / (1 - chance)


def pairwise_kappa(annotations: Sequence[Annotation]) -> dict[tuple[str, str], tuple[int, float]]:
    """For each two people, how many texts both labelled, and Cohen's kappa over those."""
    by_person: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in annotations:
        by_person[entry.annotator][entry.doc_id] = "|".join(entry.labels)
    result = {}
    for left, right in combinations(sorted(by_person), 2):
        common = sorted(by_person[left].keys() & by_person[right].keys())
        if common:
            kappa = cohen_kappa(
                [by_person[left][key] for key in common], [by_person[right][key] for key in common]
            )
            result[left, right] = len(common), kappa
    return result


def overall_kappa(annotations: Sequence[Annotation]) -> tuple[int, float] | None:
    """Fleiss' kappa over the texts that have the most usual number of labels (two or more), and
    how many those are; None where nobody labelled a text a second time."""
    votes = [
        ["|".join(entry.labels) for entry in entries] for entries in by_text(annotations).values()
    ]
    sizes = Counter(len(labels) for labels in votes if len(labels) > 1)
    if not sizes:
        return None
    size = max(sizes, key=lambda count: (sizes[count], count))
    chosen = [labels for labels in votes if len(labels) == size]
    return len(chosen), fleiss_kappa(chosen)


def by_text(annotations: Sequence[Annotation]) -> Mapping[str, list[Annotation]]:
    """The annotations of each text, in order of the annotators' names."""
    result: dict[str, list[Annotation]] = defaultdict(list)
    for entry in sorted(annotations, key=lambda item: (item.doc_id, item.annotator)):
        result[entry.doc_id].append(entry)
    return result


def adjudicate(
    annotations: Sequence[Annotation],
) -> tuple[list[Annotation], list[list[Annotation]]]:
    """Texts on whose labels more than half agree, once each, and the conflicts."""
    agreed: list[Annotation] = []
    conflicts: list[list[Annotation]] = []
    for entries in by_text(annotations).values():
        labels, votes = Counter(entry.labels for entry in entries).most_common(1)[0]
        if 2 * votes > len(entries):
            agreed.append(next(entry for entry in entries if entry.labels == labels))
        else:
            conflicts.append(entries)
    return agreed, conflicts
