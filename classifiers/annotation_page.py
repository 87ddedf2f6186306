"""The annotation page's server: loopback only, three small JSON calls, answers appended at once.

Texts are sent as JSON and put into the page as text, never as markup. Requests must name this
host and carry the page's token, so that no other site in the annotator's browser can write labels.
"""

import importlib.resources
import json
import secrets
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from classifiers.agreement import Annotation
from classifiers.candidates import Candidate, draw_key

MOST_BYTES = 1 << 16  # of a request


class Session:
    """The candidates, and who has labelled which; safe for several threads."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        labels: Sequence[str],
        out: Path,
        read: Callable[[], list[Annotation]],
        line: Callable[[Annotation], str],
    ) -> None:
        # A table without ids gets them from the texts.
        self._candidates = {c.doc_id or draw_key(c.text, 0): c for c in candidates}
        self._labels = tuple(labels)
        self._out = out
        self._line = line
        self._lock = threading.Lock()
        self._done: dict[str, list[str]] = {}  # annotator -> ids, in the order of answering
        for entry in read():
            self._done.setdefault(entry.annotator, []).append(entry.doc_id)

    def next(self, annotator: str) -> dict[str, Any]:
        """The next text for `annotator`, and how far they are."""
        with self._lock:
            done = set(self._done.get(annotator, ()))
        left = [key for key in self._candidates if key not in done]
        state: dict[str, Any] = {
            "done": len(self._candidates) - len(left),
            "all": len(self._candidates),
            "labels": list(self._labels),
            "task": None,
        }
        if left:
            candidate = self._candidates[left[0]]
            state["task"] = {
                "id": left[0],
                "text": candidate.text,
                "source": candidate.source,
                "stratum": candidate.stratum,
                "suggested": candidate.suggested,
                "words": [word for word in candidate.words.split(" | ") if word],
            }
        return state

    def label(self, annotator: str, key: str, labels: Sequence[str]) -> None:
        """Write an answer down. ValueError if the text or a label is unknown."""
        if key not in self._candidates or not labels or not set(labels) <= set(self._labels):
            raise ValueError("unknown text or label")
        with self._lock:
            self._append(annotator, key, labels)
            self._done.setdefault(annotator, []).append(key)

    def undo(self, annotator: str) -> None:
        """Take the last answer of `annotator` back, if there is one."""
        with self._lock:
            if self._done.get(annotator):
                self._append(annotator, self._done[annotator].pop(), ())

    def _append(self, annotator: str, key: str, labels: Sequence[str]) -> None:
        candidate = self._candidates.get(key)
        text, lang, source = (
            (candidate.text, candidate.lang, candidate.source) if candidate else ("", "", "")
        )
        entry = Annotation(key, annotator, tuple(sorted(labels)), text, lang, source)
        with self._out.open("a", encoding="utf-8") as file:
            file.write(self._line(entry))


def server(
    candidates: Sequence[Candidate],
    labels: Sequence[str],
    out: Path,
    port: int,
    read: Callable[[], list[Annotation]],
    line: Callable[[Annotation], str],
) -> ThreadingHTTPServer:
    """A server on 127.0.0.1:port (0: any free one) that is ready for `serve_forever`."""
    session = Session(candidates, labels, out, read, line)
    token = secrets.token_urlsafe(16)
    page = importlib.resources.files("classifiers").joinpath("annotation_page.html")
    content = page.read_text("utf-8").replace("{{token}}", token).encode()

    class Handler(BaseHTTPRequestHandler):
        """Answers the page and its calls."""

        def do_GET(self) -> None:
            """Send the page."""
            if not self._is_local():
                self._send(HTTPStatus.FORBIDDEN, {"error": "this host only"})
            elif self.path.split("?")[0] == "/":
                self._write(HTTPStatus.OK, "text/html; charset=utf-8", content)
            else:
                self._send(HTTPStatus.NOT_FOUND, {"error": "no such page"})

        def do_POST(self) -> None:
            """Answer next, label or undo with the annotator's state."""
            if not self._is_local() or self.headers.get("X-Token") != token:
                self._send(HTTPStatus.FORBIDDEN, {"error": "this page only"})
                return
            try:
                size = int(self.headers.get("Content-Length", 0))
                if not 0 < size <= MOST_BYTES:
                    raise ValueError("empty or too long")
                body = json.loads(self.rfile.read(size))
                annotator = str(body["annotator"]).strip()
                if not annotator:
                    raise ValueError("an annotator needs a name")
                if self.path == "/label":
                    session.label(annotator, str(body["id"]), [str(x) for x in body["labels"]])
                elif self.path == "/undo":
                    session.undo(annotator)
                elif self.path != "/next":
                    raise ValueError("no such call")
            except (ValueError, KeyError, TypeError) as error:
                self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})
                return
            except OSError as error:  # a full disk, a file that is not writable: the page says it
                self._send(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})
                return
            self._send(HTTPStatus.OK, session.next(annotator))

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: texts and names do not belong into a terminal's history."""

        def _is_local(self) -> bool:
            host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
            return host in ("127.0.0.1", "localhost")

        def _send(self, status: HTTPStatus, value: Any) -> None:
            data = json.dumps(value, ensure_ascii=False).encode()
            self._write(status, "application/json; charset=utf-8", data)

        def _write(self, status: HTTPStatus, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.end_headers()
            self.wfile.write(data)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
