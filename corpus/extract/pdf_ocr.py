"""Scanned pages read by Tesseract, which is run as a program where it is installed.

Its own build is twice as fast as the one inside PyMuPDF, and better set up. The program shares the
worker's limit of memory, has its limit of CPU time for each page, and dies with the worker.
"""

import csv
import ctypes
import io
import os
import re
import shutil
import signal
import statistics
import subprocess

import pymupdf

from corpus.extract.pdf_lines import Line, PageLines, Word, clean

WIDTH = 1700
"""Pixels across that a page is drawn with: some 200 dots an inch on A4, whatever size it states."""
TALLEST = 4
"""Times its width that a page may be high."""
LEAST_CONFIDENCE = 35.0
"""Of 100: lines whose words Tesseract trusts less on average are specks and pictures."""
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class OcrError(RuntimeError):
    """Tesseract is missing, lacks a language, or failed; the text says which."""


def recognise(page: pymupdf.Page, languages: str) -> PageLines:
    """The lines of a page's picture.

    `languages` are Tesseract's names joined by plus signs (chi_sim+eng). Raises OcrError.
    """
    program = shutil.which("tesseract")
    if program is None:
        raise OcrError("tesseract is not installed on this machine")
    width, height = page.rect.width, page.rect.height
    if width <= 0 or height > TALLEST * width:
        raise OcrError("the page's shape is not that of a page")
    scale = WIDTH / width
    picture = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csGRAY)
    command = [program, "stdin", "stdout", "-l", languages, "--dpi", "200", "tsv"]
    done = subprocess.run(
        command,
        input=picture.tobytes("pnm"),
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        preexec_fn=_die_with_parent,
    )
    said = done.stderr.decode("utf-8", "replace")
    # With one of two languages missing it would go on with the other.
    missing = re.findall(r"Failed loading language '(\w+)'", said)
    if missing:
        raise OcrError(f"tesseract has no data here for {', '.join(missing)}")
    if done.returncode:
        raise OcrError(f"tesseract: {said.strip() or f'status {done.returncode}'}"[:300])
    return _lines(done.stdout.decode("utf-8", "replace"), width, height, scale)


def _die_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _lines(table: str, width: float, height: float, scale: float) -> PageLines:
    """Tesseract's table of words as lines, in points."""
    found: dict[tuple[int, int, int], list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["level"] == "5" and (row["text"] or "").strip():
            key = (int(row["block_num"]), int(row["par_num"]), int(row["line_num"]))
            found.setdefault(key, []).append(row)
    sure = [
        words
        for words in found.values()
        if statistics.mean(float(word["conf"]) for word in words) >= LEAST_CONFIDENCE
    ]
    tall = [max(int(word["height"]) for word in words) / scale for words in sure]
    usual = statistics.median(tall) if tall else 0.0
    lines: list[Line] = []
    every: list[Word] = []
    for number, (words, own) in enumerate(zip(sure, tall, strict=True)):
        boxes = [_box(word, scale) for word in words]
        # A line is as high as its tallest sign: that is no font size until it differs by much.
        size = usual if abs(own - usual) < 0.45 * usual else own
        left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
        middle = statistics.median((box[1] + box[3]) / 2 for box in boxes)
        text = clean(" ".join(word["text"] for word in words))
        top, bottom = middle - size / 2, middle + size / 2
        lines.append(Line(left, top, right, bottom, size, text, False, number, (number, 0)))
        for place, (word, box) in enumerate(zip(words, boxes, strict=True)):
            every.append((box[0], top, box[2], bottom, word["text"], number, 0, place))
    return PageLines(width, height, lines, 1, every)


def _box(word: dict[str, str], scale: float) -> tuple[float, float, float, float]:
    left, top = int(word["left"]), int(word["top"])
    right, bottom = left + int(word["width"]), top + int(word["height"])
    return left / scale, top / scale, right / scale, bottom / scale
