"""Build the wheel and the source archive twice, and see that both times give the same bytes: ``make wheel``.

What is built is the last commit, and the time in the archives is that of it (or what SOURCE_DATE_EPOCH says), so that
anyone who checks the commit out and builds gets the files that were published.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Build, compare, move to ``dist``."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct").decode().strip()
    if git("status", "--porcelain"):
        print("changes that are not committed are not built", file=sys.stderr)
    builds = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("one", "two"):
            source, out = Path(folder) / f"{name} source", Path(folder) / name
            with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD"))) as archive:
                archive.extractall(source, filter="data")
            command = [sys.executable, "-m", "build", "--outdir", str(out), str(source)]
            environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            builds.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()})
        if builds[0] != builds[1]:
            sys.exit(f"two builds differ: {builds[0]} and {builds[1]}")
        (ROOT / "dist").mkdir(exist_ok=True)
        for path in (Path(folder) / "one").iterdir():
            shutil.copy(path, ROOT / "dist" / path.name)
    for name, digest in sorted(builds[0].items()):
        print(f"{digest}  dist/{name}")


def git(*words: str) -> bytes:
    """What git says of this checkout."""
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout


if __name__ == "__main__":
    main()
