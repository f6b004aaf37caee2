"""Results in a SQLite file: what is finished stays finished, whatever becomes of the process.

One row per (features, labels, metric, options, version), each a fingerprint or plain text; runs
refer to rows, which never change. What is true of one run alone, a failure above all, has a row of
its own: (run, model, metric, "", version). What a run says of a model is one transaction. Several
processes may write to one file.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .._version import __version__
from ..errors import StoreError
from .work import Outcome

_APPLICATION = 0x4C454144  # "LEAD", in the file's header
# Of the tables. How fingerprints are made has no number of its own: rows under keys that nobody
# makes any more stay what their runs show, and their models are scored once again.
_SCHEMA = 1
_WAIT = 60.0  # seconds for another writer to finish its row
# ns; a file written so shortly before it was looked at may change again within one clock tick.
_FRESH = 2_000_000_000

_KEY = "features = ? AND labels = ? AND metric = ? AND options = ? AND version = ?"

_TABLES = """
CREATE TABLE IF NOT EXISTS results (
    id INTEGER PRIMARY KEY,
    features TEXT NOT NULL, labels TEXT NOT NULL, metric TEXT NOT NULL, options TEXT NOT NULL,
    version TEXT NOT NULL,
    score REAL, parts TEXT, seconds REAL NOT NULL, device TEXT NOT NULL, error TEXT,
    notices TEXT NOT NULL, details TEXT NOT NULL, finished REAL NOT NULL,
    UNIQUE (features, labels, metric, options, version)
);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    zoo TEXT NOT NULL, metrics TEXT NOT NULL, options TEXT NOT NULL, version TEXT NOT NULL,
    models INTEGER NOT NULL, host TEXT NOT NULL, process INTEGER NOT NULL,
    started REAL NOT NULL, finished REAL
);
CREATE TABLE IF NOT EXISTS entries (
    run INTEGER NOT NULL REFERENCES runs (id), metric TEXT NOT NULL, model TEXT NOT NULL,
    result INTEGER NOT NULL REFERENCES results (id), score REAL,
    PRIMARY KEY (run, metric, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
    inode INTEGER NOT NULL, features TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Run:
    """One run of a store.

    Attributes
    ----------
    id : int
    zoo : str
    metrics : list of str
    options : dict {metric: dict}
        With the defaults filled in.
    version : str
    models, done, failed : int
        In the zoo, recorded, and of those without a score by some metric.
    started, finished : float or None
        Seconds since 1970; None for a run that was stopped or still goes on.
    """

    id: int
    zoo: str
    metrics: list
    options: dict
    version: str
    models: int
    done: int
    failed: int
    started: float
    finished: float | None


class Store:
    """A SQLite file of results.

    Parameters
    ----------
    path : path-like
        Made where it is missing, unless `reading`.
    reading : bool
        Whether nothing is to be written, which needs no permission to.

    Raises
    ------
    StoreError
        The file cannot be opened or made, or is something else.

    Notes
    -----
    The file is in WAL mode: beside it lie ``-wal`` and ``-shm`` while it is open, and it must be on
    a local disk, since machines do not share the latter. The disk is waited for only as ``-wal`` is
    taken into the file: what was recorded outlives the process, however it ends; where the power
    fails, the last models may be missing, and the rest is sound.
    """

    def __init__(self, path, reading=False):
        self.path = Path(path)
        if reading and not self.path.is_file():
            raise StoreError(f"{self.path}: no such store; lead-fast rank --store makes one")
        if reading and self.path.stat().st_size == 0:
            raise StoreError(f"{self.path}: an empty file, no store")
        if not reading and self.path.exists() and not os.access(self.path, os.W_OK):
            # SQLite would leave a -wal and -shm of this user's, which lock out the file's owner.
            raise StoreError(f"{self.path}: may not be written to by this user")
        self._lock = threading.RLock()  # the thread that reads ahead looks things up, too
        with self._errors():
            self._database = sqlite3.connect(
                _read_only(self.path) if reading else self.path, uri=reading, timeout=_WAIT,
                isolation_level=None, check_same_thread=False,
            )  # fmt: skip
        try:
            with self._errors():
                schema = self._check()
                if reading and not schema:
                    raise StoreError(f"{self.path}: an empty database, no store yet")
                if reading:
                    self._database.execute("PRAGMA query_only = ON")
                else:
                    self._prepare(schema)
        except BaseException:
            self._database.close()
            raise

    def _check(self):
        """The form of the tables, 0 where there are none; raises for what is no store."""
        # In this order: the tables and the number of another process that makes the store
        # appear at once, so that a number read after its tables is there as well.
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (found,) = self._database.execute("PRAGMA application_id").fetchone()
        if tables and found != _APPLICATION:
            raise StoreError(f"{self.path}: a database, but no store of lead_fast")
        (schema,) = self._database.execute("PRAGMA user_version").fetchone()
        if found == _APPLICATION and schema > _SCHEMA:
            raise StoreError(f"{self.path}: written by a later version of lead_fast")
        return schema

    def _prepare(self, schema):
        self._journal()
        self._database.execute("PRAGMA synchronous = NORMAL")
        if schema < _SCHEMA:
            with self._transaction() as database:
                for statement in _TABLES.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {_APPLICATION}")
                database.execute(f"PRAGMA user_version = {_SCHEMA}")

    def _journal(self):
        """Switch to WAL mode; processes that do so at once do not wait for each other by itself."""
        until = time.monotonic() + _WAIT
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: not usable as a store ({error})") from error

    @contextlib.contextmanager
    def _transaction(self):
        with self._lock, self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _query(self, statement, values=()):
        with self._lock, self._errors():
            return self._database.execute(statement, values).fetchall()

    def close(self):
        """Close the file; what was stored is in it already."""
        with self._lock:
            self._database.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Writing

    def begin(self, zoo, options, models):
        """Add a run; returns its number.

        Parameters
        ----------
        zoo : str
        options : dict {metric: str}
            Canonical JSON of each metric's options.
        models : int
            How many there are.
        """
        with self._transaction() as database:
            row = (_bound(zoo), json.dumps(list(options)), json.dumps(options), __version__, models,
                   socket.gethostname(), os.getpid(), time.time())  # fmt: skip
            return database.execute(
                "INSERT INTO runs (zoo, metrics, options, version, models, host, process, started)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row,
            ).lastrowid  # fmt: skip

    def put(self, run, model, keys, outcomes):
        """Record what metrics made of a model, in one transaction.

        Parameters
        ----------
        run : int
        model : str
        keys : dict {metric: tuple or None}
            Features, labels, metric and options, where other runs may find the outcome.
        outcomes : dict {metric: Outcome}
            The first one of a key stays. A failure, and an outcome whose details differ from what
            the key has already, are for this run alone.
        """
        name = _bound(model)
        with self._transaction() as database:
            for metric, outcome in outcomes.items():
                key, details = keys.get(metric), json.dumps(outcome.details)
                if key is None or outcome.error is not None or self._is_taken(key, details):
                    key = f"run {run}", name, metric, ""
                parts = json.dumps(outcome.value) if isinstance(outcome.value, tuple) else None
                score = None if parts else outcome.value
                database.execute(
                    "INSERT INTO results (features, labels, metric, options, version, score, parts,"
                    " seconds, device, error, notices, details, finished)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (features, labels, metric, options, version) DO NOTHING",
                    (*key, __version__, score, parts, outcome.seconds, outcome.device,
                     _bound(outcome.error), json.dumps(outcome.notices), details, time.time()),
                )  # fmt: skip
                database.execute(
                    "INSERT OR REPLACE INTO entries (run, metric, model, result)"
                    f" SELECT ?, ?, ?, id FROM results WHERE {_KEY}",
                    (run, metric, name, *key, __version__),
                )

    def _is_taken(self, key, details):
        """Whether a key has an outcome, of other details than these."""
        found = self._query(f"SELECT details FROM results WHERE {_KEY}", (*key, __version__))
        return bool(found) and found[0][0] != details

    def finish(self, run, scores):
        """Mark a run as complete.

        Parameters
        ----------
        run : int
        scores : dict {metric: {model: float}}
            Of metrics whose scores exist only beside those of the other models.
        """
        with self._transaction() as database:
            for metric, found in scores.items():
                database.executemany(
                    "UPDATE entries SET score = ? WHERE run = ? AND metric = ? AND model = ?",
                    [(score, run, metric, _bound(model)) for model, score in found.items()],
                )
            database.execute("UPDATE runs SET finished = ? WHERE id = ?", (time.time(), run))

    def remember_file(self, state, features):
        """Keep the fingerprint of the features in a file of this state, unless it was very new."""
        if state.seen - max(state.mtime, state.ctime) < _FRESH:
            return
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                (*_columns(state), features),
            )

    # Reading

    def known_file(self, state):
        """The fingerprint of the features in a file that has not changed since; or None."""
        found = self._query(
            "SELECT features FROM files WHERE path = ? AND bytes = ? AND mtime = ? AND ctime = ?"
            " AND inode = ?", _columns(state),
        )  # fmt: skip
        return found[0][0] if found else None

    def get(self, key):
        """The :class:`Outcome` that has this key; None if there is none."""
        found = self._query(
            "SELECT score, parts, seconds, device, error, notices, details FROM results"
            f" WHERE {_KEY}", (*key, __version__),
        )  # fmt: skip
        return _outcome(*found[0]) if found else None

    def runs(self):
        """All runs, the oldest first: list of :class:`Run`."""
        found = self._query(
            "SELECT runs.id, zoo, metrics, runs.options, runs.version, models,"
            " count(DISTINCT model), count(DISTINCT iif(error IS NULL, NULL, model)),"
            " started, runs.finished FROM runs LEFT JOIN entries ON entries.run = runs.id"
            " LEFT JOIN results ON results.id = entries.result GROUP BY runs.id ORDER BY runs.id"
        )
        return [
            Run(number, _text(zoo), json.loads(names),
                {name: json.loads(text) for name, text in json.loads(options).items()}, *rest)
            for number, zoo, names, options, *rest in found
        ]  # fmt: skip

    def outcomes(self, run, metric):
        """``{model: Outcome}`` of a metric in a run.

        The score of a metric that scores a whole zoo is None where the run was not finished.
        """
        found = self._query(
            "SELECT model, iif(parts IS NULL, results.score, entries.score), NULL, seconds, device,"
            " error, notices, details FROM entries"
            " JOIN results ON results.id = entries.result WHERE run = ? AND entries.metric = ?",
            (run, metric),
        )
        return {_text(model): _outcome(*row) for model, *row in found}


def _read_only(path):
    """The URI by which SQLite reads a store and leaves its directory as it was."""
    path = Path(os.path.realpath(path))  # beside which -wal and -shm lie
    if os.path.exists(f"{path}-wal"):  # a run goes on, or was killed: its rows are in there
        mode = "mode=ro"
    elif os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        mode = "mode=rw"  # with query_only. It removes the -wal and -shm that a reader makes, too
    else:
        # These two cannot be made; or they would stay, as files that whoever writes to the store
        # may not write to. What such a writer adds from now on is not seen.
        mode = "immutable=1"
    return f"{path.as_uri()}?{mode}"


def _columns(state):
    """A FileState as the table of files has it."""
    return _bound(state.path), state.bytes, state.mtime, state.ctime, state.inode


def _bound(value):
    """A text as SQLite can keep it; bytes where it has what no text has: a name not in UTF-8."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def _text(value):
    """What :func:`_bound` was given."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def _outcome(score, parts, seconds, device, error, notices, details):
    value = score if parts is None else tuple(json.loads(parts))
    pairs = tuple((kind, text) for kind, text in json.loads(notices))
    return Outcome(value, seconds, device, _text(error), pairs, json.loads(details))
