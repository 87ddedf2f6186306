"""What the extraction benchmarks share: the data, the tool under test in its process, tables.

Not a benchmark itself. Needs lxml.
"""

import gzip
import json
import multiprocessing
import os
import platform
import re
import resource
import signal
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

HAN = "\u3400-\u9fff\uf900-\ufaff"

Grid = list[list[tuple[str, object]]]  # rows of (cell text, cell identity); spans repeat a cell


def unpack(archive: Path, scratch: Path) -> Path:
    """The folder of an archive of the data folder, unpacked into scratch/data once."""
    name = archive.name.removesuffix(".tar.gz")
    folder = scratch / "data" / name
    if not folder.exists():
        part = scratch / "data" / f".{name}.{os.getpid()}"
        with tarfile.open(archive) as tar:
            tar.extractall(part, filter="data")
        os.rename(part / name, folder)
        part.rmdir()
    return folder


def read_page(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


# ---------------------------------------------------------------- the tool


@dataclass
class Outcome:
    status: str  # ok, error, memory, timeout, crash
    value: Any = None
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    error: str = ""


class Worker:
    """A forked process that runs the tool, so that a hang or a crash costs one call.

    One worker serves many calls (a fresh one replaces it after a timeout or crash); where limits
    are set, use a new worker for every call.
    """

    def __init__(self, tool: Callable, cpu_limit_s: int = 0, memory_limit_gb: float = 0.0):
        self.tool = tool
        self.cpu_limit_s = cpu_limit_s
        self.memory_limit_gb = memory_limit_gb
        self.process = None

    def call(self, argument: Any, timeout_s: float) -> Outcome:
        if self.process is None:
            context = multiprocessing.get_context("fork")
            self.pipe, child_end = context.Pipe()
            self.process = context.Process(target=self._serve, args=(child_end, self.pipe))
            self.process.start()
            child_end.close()
            self.ended_s, self.spent_s = _cpu_s(resource.RUSAGE_CHILDREN), 0.0
        try:
            self.pipe.send(argument)
            if self.pipe.poll(timeout_s):
                outcome = self.pipe.recv()
                self.spent_s += outcome.cpu_s
                return outcome
            os.kill(self.process.pid, signal.SIGKILL)
            outcome = Outcome("timeout")
        except (EOFError, ConnectionResetError, BrokenPipeError):
            outcome = Outcome("crash")
        self.process.join()
        outcome.cpu_s = _cpu_s(resource.RUSAGE_CHILDREN) - self.ended_s - self.spent_s
        if outcome.status == "crash":
            code = self.process.exitcode
            outcome.error = f"signal {-code}" if code < 0 else f"exit status {code}"
            if -code in (signal.SIGXCPU, signal.SIGKILL):
                outcome.status = "timeout"
        self.process = None
        return outcome

    def close(self) -> None:
        if self.process is not None:
            self.pipe.close()
            self.process.join(5)
            if self.process.is_alive():
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.join()
            self.process = None

    def _serve(self, pipe, parent_end) -> None:
        parent_end.close()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self.cpu_limit_s:
            resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_limit_s, self.cpu_limit_s + 1))
        if self.memory_limit_gb:
            limit = int(self.memory_limit_gb * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        while True:
            try:
                argument = pipe.recv()
            except EOFError:
                return
            before = _cpu_s(resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
            try:
                outcome = Outcome("ok", self.tool(argument) or "")
            except MemoryError:
                outcome = Outcome("memory")
            except Exception as error:
                outcome = Outcome("error", error=f"{type(error).__name__}: {str(error)[:100]}")
            outcome.cpu_s = _cpu_s(resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) - before
            outcome.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            pipe.send(outcome)


def _cpu_s(*whose: int) -> float:
    usage = map(resource.getrusage, whose)
    return sum(u.ru_utime + u.ru_stime for u in usage)


# ---------------------------------------------------------------- tables


def markdown_tables(text: str) -> list[Grid]:
    """The pipe tables of a markdown text, and HTML tables, which markdown allows."""
    tables, lines = [], []
    for line in [*text.split("\n"), ""]:
        line = line.strip()
        if line.startswith("|") and line.count("|") >= 2:
            lines.append(line)
            continue
        if len(lines) >= 2:
            rows = [re.split(r"(?<!\\)\|", x.removeprefix("|").removesuffix("|")) for x in lines]
            rows = [r for r in rows if not all(re.fullmatch(r"\s*:?-+:?\s*", c) for c in r)]
            tables.append(plain_grid([[_cell_text(c) for c in row] for row in rows]))
        lines = []
    if "<table" in text:
        tables += [g for g in map(html_grid, re.findall(r"(?is)<table.*?</table>", text)) if g]
    return tables


def _cell_text(cell: str) -> str:
    from lxml import html

    cell = re.sub(r"<br\s*/?>", " ", cell).replace("\\|", "|").replace("**", "")
    return html.fromstring(f"<p>{cell}</p>").text_content() if "&" in cell else cell


def plain_grid(rows: list[list[str | None]]) -> Grid:
    return [[(c or "", (i, j)) for j, c in enumerate(row)] for i, row in enumerate(rows)]


def html_grid(source) -> Grid:
    """The first table of some HTML (or an lxml element), spans filled in, nested tables as text."""
    from lxml import html

    root = html.fromstring(source) if isinstance(source, str) else source
    table = root if root.tag == "table" else next(root.iter("table"), root)
    rows = [r for r in table.iter("tr") if next(r.iterancestors("table"), table) is table]
    cells = {}
    for i, row in enumerate(rows):
        j = 0
        for cell in row:
            if cell.tag not in ("td", "th"):
                continue
            while (i, j) in cells:
                j += 1
            width, height = _span(cell, "colspan", 100), _span(cell, "rowspan", 500)
            for a in range(height):
                for b in range(width):
                    cells[i + a, j + b] = (cell.text_content(), (i, j))
            j += width
    return filled(cells, len(rows))


def _span(cell, name: str, most: int) -> int:
    digits = re.match(r"\s*(\d+)", cell.get(name) or "")
    return max(1, min(most, int(digits[1]))) if digits else 1


def filled(cells: dict[tuple[int, int], tuple[str, object]], height: int = 0) -> Grid:
    if not cells:
        return []
    bottom = max(i for i, _ in cells) + 1
    width = max(j for _, j in cells) + 1
    return [
        [cells.get((i, j), ("", (i, j))) for j in range(width)]
        for i in range(min(height or bottom, bottom))
    ]


def cell_norm(text: str) -> str:
    text = re.sub(r"[\s*_`\\$]+", "", str(text)).lower()
    return text.replace("\u2212", "-").replace("\u2013", "-").replace("\u2019", "'")


def cell_bag(grid: Grid) -> Counter:
    """The cells that hold text, a spanning cell once."""
    once = {identity: cell_norm(text) for row in grid for text, identity in row}
    return Counter(text for text in once.values() if text)


def adjacency(grid: Grid) -> Counter:
    """ICDAR 2013's relations: (cell, next cell with text to the right or below, direction)."""
    relations, seen = Counter(), set()
    width = max(map(len, grid), default=0)
    columns = [[row[j] for row in grid if j < len(row)] for j in range(width)]
    for direction, lines in (("right", grid), ("below", columns)):
        for line in lines:
            previous = None
            for text, identity in line:
                text = cell_norm(text)
                if not text:
                    continue
                if previous and previous[1] != identity:
                    key = (previous[1], identity, direction)
                    if key not in seen:
                        seen.add(key)
                        relations[previous[0], text, direction] += 1
                previous = (text, identity)
    return relations


def f1(gold: Counter, found: Counter) -> float:
    total = gold.total() + found.total()
    return 2 * (gold & found).total() / total if total else 1.0


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 0.0


# ---------------------------------------------------------------- reporting


def machine() -> str:
    """The processor and what else decides a speed."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def versions(*names: str) -> str:
    """Name and version of installed distributions; what is missing is said to be."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def report(title: str, rows: list[tuple[str, float, str, str]], path: Path | None) -> None:
    """Print one table (metric, ours, limit, best peer) and write {metric: number} to `path`."""
    print(f"\n{title}")
    print(f"  {'metric':28s}{'ours':>9s}  {'limit':>8s}  peers")
    for name, value, limit, peer in rows:
        bound = float(limit.split()[1])
        met = value >= bound if limit.startswith(">=") else value <= bound
        print(f"  {name:28s}{value:9.3f}  {limit:>8s}  {'' if met else 'NOT MET; '}{peer}")
    if path is not None:
        path.write_text(json.dumps({name: value for name, value, _, _ in rows}, indent=1) + "\n")
