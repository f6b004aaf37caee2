"""Files that the commands write: in one step, and checked before anything is computed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ._console import as_json
from .errors import InputError


@contextlib.contextmanager
def whole_file(path):
    """A temporary file beside `path` that takes its place at the end, so that no half one is seen.

    It is there and empty; whatever fails, it is removed, and `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(b"")
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


class Output:
    """A file written in one step at the end; whether that can work is checked at the start."""

    def __init__(self, path, option="--out"):
        self.option = option
        if str(Path(path).absolute()).startswith(("/dev/", "/proc/")):
            raise InputError(f"{option} {path}: is not a regular file")
        self.path = Path(path).resolve()  # through a link, so that its target is replaced
        self.is_json = self.path.suffix == ".json"
        if self.path.exists() and not self.path.is_file():
            raise InputError(f"{option} {path}: is not a regular file")
        if not self.path.parent.is_dir():
            raise InputError(f"{option} {path}: there is no directory {self.path.parent}")
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise InputError(f"{option} {path}: cannot write to the directory {self.path.parent}")

    def write(self, text):
        """Write a text, and a newline."""
        self.write_bytes((text + "\n").encode("utf-8", "backslashreplace"))

    def write_bytes(self, content):
        """Write in one step."""
        try:
            with whole_file(self.path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise InputError(f"{self.option} {self.path}: {error.strerror}") from error


class ScoreFiles:
    """``{model: score}`` files by metric and data set, as the public SFDA, PED and ETran code has.

    Parameters
    ----------
    path : str
        A directory, which gets METRIC/DATASET_metrics.json; or, for one metric, a .json file.
    dataset : str or Path
    several : bool
        Whether there are several metrics.
    """

    def __init__(self, path, dataset, several):
        if path is None:
            raise InputError("--format sfda writes files: give --out a directory or a .json file")
        self.path, self.dataset = Path(path), Path(dataset).resolve().name
        self.single = self.path.suffix == ".json"
        if self.single and several:
            raise InputError(f"--out {path}: several metrics need a directory")
        if self.single:
            Output(self.path)
        elif self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {path}: is not a directory")

    def write(self, rankings):
        """Write one file for each ranking; models that failed are left out."""
        for ranking in rankings:
            path = self.path
            if not self.single:
                path = self.path / ranking.metric / f"{self.dataset}_metrics.json"
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise InputError(f"--out {path.parent}: {error.strerror}") from error
            Output(path).write(as_json(ranking.scores))
