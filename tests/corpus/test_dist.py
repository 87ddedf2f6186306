"""The zip for `--py-files` must be importable on a worker that has no checkout."""

import subprocess
import sys
from pathlib import Path

from corpus.dist import build_zip

ROOT = Path(__file__).resolve().parent.parent.parent


def test_workers_import_all_rooms_from_the_zip(tmp_path: Path) -> None:
    archive = tmp_path / "lianjin.zip"
    build_zip(ROOT, archive)
    again = tmp_path / "again.zip"
    build_zip(ROOT, again)
    assert archive.read_bytes() == again.read_bytes()
    code = (
        f"import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        f"sys.path_hooks = [h for h in sys.path_hooks if 'editable' not in repr(h)]; "
        f"sys.path.insert(0, {str(archive)!r}); "
        "import tokenize, corpus.pipeline, tokenization.build_shards, classifiers.harm; "
        "from corpus.stage import code_version; code_version('corpus.selection.stage'); "
        "print(corpus.__file__, tokenization.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        f"{archive}/corpus/__init__.py",
        f"{archive}/tokenization/__init__.py",
    ]
