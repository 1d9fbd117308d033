"""Files that appear whole or not at all, and where a number comes from."""

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lclkit import __version__


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path to write a file or folder to; it gets its name, `target`, only when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.urandom(4).hex()}-{target.name}")
    try:
        yield partial
        if not target.is_dir():  # else another process was first
            for path in filter(Path.is_file, [partial, *partial.rglob("*")]):
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())  # on disk before it has its name, whatever is cut off
            os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)


def writable(folder: str | Path) -> Path:
    """Its absolute path, `~` expanded; it is made and tried. OSError where it cannot be written."""
    try:
        path = Path(folder).expanduser().absolute()
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=f".{'long-' * 8}") as file:
            file.write(b"some bytes")  # a full disk takes empty files; names to come are long
    except (OSError, RuntimeError, ValueError) as error:
        raise OSError(f"cannot write to {folder} ({error}); mend it, or name another") from error
    return path


def safe_name(words: str) -> str:
    """A name for a file or folder, of any words, that every system takes: at most 80 bytes."""
    name = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]', "-", words).lstrip(". ")
    return name.encode()[:80].decode(errors="ignore").rstrip(". ") or "-"


def provenance() -> dict:
    """Where a number comes from: library versions, git commit (None outside a clone), time."""
    versions = {"python": platform.python_version(), "lclkit": __version__}
    for library in ("torch", "transformers", "nltk", "numpy", "scikit-learn"):
        versions[library] = importlib.metadata.version(library)
    root = Path(__file__).parents[1]
    commit = ""
    if (root / ".git").exists() and shutil.which("git"):
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        commit = subprocess.run(describe, cwd=root, capture_output=True, text=True).stdout.strip()
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"versions": versions, "git_commit": commit or None, "finished": now}
