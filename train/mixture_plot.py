"""A picture of a mixture: every bucket's share along the run, planned and drawn."""

from pathlib import Path

import numpy as np

from corpus.settings import UserError
from train.counts import Floats
from train.stream import Stream

_POINTS = 400
_LEAST_SEQUENCES = 100  # of a window: fewer would show rounding, not shares


def share_curves(stream: Stream, points: int = _POINTS) -> tuple[Floats, Floats, Floats]:
    """What was planned and drawn along the run, in windows of steps.

    Returns (steps float64 [w], planned float64 [w, buckets], drawn float64 [w, buckets]): the
    middle of each window and each bucket's share of its tokens.
    """
    middles, planned, drawn = [], [], []
    for leg in stream.legs:
        fine = round(points * leg.steps / stream.steps)
        windows = max(1, min(fine, leg.steps * leg.sequences // _LEAST_SEQUENCES))
        edges = np.unique(np.linspace(0, leg.steps, min(windows, leg.steps) + 1).astype(np.int64))
        for begin, end in zip(edges[:-1] + leg.block, edges[1:] + leg.block, strict=True):
            total = (end - begin) * leg.sequences
            middles.append(leg.step - leg.block + (begin + end) / 2)
            planned.append((leg.counts.scheduled(end) - leg.counts.scheduled(begin)) / total)
            drawn.append((leg.counts.before(end) - leg.counts.before(begin)) / total)
    return np.array(middles), np.array(planned), np.array(drawn)


def plot_mixture(stream: Stream, path: str | Path) -> None:
    """Draw the planned shares as areas and the drawn ones as dots; the suffix says the format.

    Raises:
        UserError: the picture cannot be written there.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps, planned, drawn = share_curves(stream)
    order = np.lexsort([[-share for share in planned.mean(axis=0)], _groups(stream)])
    names = [stream.buckets[place].name for place in order]
    colours = plt.get_cmap("tab20")(np.arange(len(names)) % 20)
    figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
    axes.stackplot(steps, planned[:, order].T, labels=names, colors=colours, alpha=0.75)
    edges = np.cumsum(drawn[:, order], axis=1)
    axes.plot(steps, edges[:, :-1], ".", color="black", markersize=1.5)
    for leg in stream.legs:
        axes.axvline(leg.step, color="black", linewidth=0.8)
        axes.text(leg.step, 1.01, f" {leg.stage.name}", fontsize=9)
    axes.set(xlim=(0, stream.steps), ylim=(0, 1), xlabel="step", ylabel="share of the batch")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8,
        title="planned (areas), drawn (dots)",
    )  # fmt: skip
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the picture cannot be written: {error}") from error
    finally:
        plt.close(figure)


def _groups(stream: Stream) -> list[str]:
    return [f"{b.tags.get('lang')} {b.tags.get('domain')}" for b in stream.buckets]
