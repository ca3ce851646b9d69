"""The pieces a comparison is cut into, computed in processes of their own or on the workers of a cluster.

A piece is one pipeline with one seed on one subject. It carries all that is needed to compute it, trials excepted:
whoever computes it loads them, and keeps those loaded last for the next piece. A pipeline that ends its process, by a
crash or for want of memory, therefore costs that piece and nothing else.
"""

import contextlib
import os
import re
import threading
import time
import traceback
import warnings
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field

from .evaluation import count_parameters


@dataclass
class Piece:
    """One pipeline with one seed on one subject."""

    name: str
    seed: int
    subjects: list
    pipeline: object
    evaluation: object
    dataset: object
    process_pipeline: object
    grid: dict | None = None
    describe: bool = False  # count the parameters of its network as well


@dataclass
class Computed:
    """What came of a piece: rows, or a failure."""

    name: str
    seed: int
    subjects: list
    rows: list = field(default_factory=list)
    failure: dict | None = None
    data_failed: bool = False
    notes: dict = field(default_factory=dict)
    shape: dict = field(default_factory=dict)


def compute(piece):
    """Compute one piece; what fails is told of, not raised.

    Parameters
    ----------
    piece : Piece
        Piece.

    Returns
    -------
    computed : Computed
        Rows in MOABB's form, or the failure.
    """
    asked = piece.dataset, piece.subjects, piece.name, piece.pipeline, piece.process_pipeline
    computed = Computed(piece.name, piece.seed, piece.subjects)
    with quiet():
        try:
            X, y, _ = piece.evaluation.load(*asked)
        except (Exception, SystemExit) as error:  # damaged files raise anything; the other subjects go on
            computed.failure, computed.data_failed = _failure(piece, error, name="The data"), True
            return computed
        try:
            computed.rows = piece.evaluation.compute(*asked, piece.grid)
        except (Exception, SystemExit) as error:  # whatever a pipeline raises, the others go on
            computed.failure = _failure(piece, error)
            return computed
        computed.shape = {"n_channels": int(X.shape[1]), "n_times": int(X.shape[2]), "sfreq": getattr(X, "sfreq", None)}
        if piece.describe:
            computed.notes = _count(piece, X, y)
    return computed


def compute_all(pieces, jobs):
    """Compute pieces in `jobs` processes, or on the cluster that joblib was told to use.

    Each process is alone in its pool, so that the end of one is told to its own piece and not to those of the others.

    Parameters
    ----------
    pieces : iterable of Piece
        Pieces; taken one by one, as they are needed.
    jobs : int
        Number of processes; 0 computes in this one.

    Yields
    ------
    computed : Computed
        What came of each, in the order in which they are done.
    """
    if not jobs and not on_cluster():
        yield from map(compute, pieces)
        return
    pieces, idle, running = iter(pieces), _workers(jobs), {}
    try:
        while True:
            while idle and (piece := next(pieces, None)) is not None:
                worker = idle.pop()
                running[worker.submit(compute, piece)] = worker, piece
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, piece = running.pop(future)
                try:
                    computed = future.result()
                except Exception as error:  # its process ended, or the piece cannot be sent there
                    computed = Computed(piece.name, piece.seed, piece.subjects, failure=_failure(piece, error))
                    worker = worker if on_cluster() else _replace(worker, jobs)
                idle.append(worker)
                yield computed
    finally:
        for worker in {*idle, *(worker for worker, _ in running.values())}:
            _end(worker)


def _workers(jobs):
    """Pools of one process each; on a cluster the same one, once for each of its threads.

    Dask holds the death of a worker against every piece that waits in it too, so that none waits there.
    """
    if not on_cluster():
        return [_start(jobs) for _ in range(jobs)]
    from joblib.parallel import get_active_backend

    backend = get_active_backend()[0]
    pool = backend.client.get_executor(pure=False, **backend.submit_kwargs)
    return [pool] * sum(backend.client.nthreads().values())


def _start(jobs):
    """Pool of one process, started when it is first needed, with its share of the cores."""
    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor

    share = str(max(1, cpu_count() // jobs))
    threads = {f"{name}_NUM_THREADS": share for name in ("OMP", "MKL", "OPENBLAS")}
    return ProcessPoolExecutor(1, env=threads | os.environ, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent):
    """Let this process end when its parent does, however that ends."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end(worker):
    """End a pool, whatever it computes."""
    if on_cluster():
        worker.shutdown(wait=False)
    else:
        worker.shutdown(kill_workers=True)


def _replace(worker, jobs):
    """Another pool for one whose process ended."""
    _end(worker)
    return _start(jobs)


def on_cluster():
    """Whether joblib was told to compute on a Dask cluster.

    Returns
    -------
    on_cluster : bool
        True inside ``with joblib.parallel_config("dask")``.

    Examples
    --------
    >>> from skeeg.bench.pieces import on_cluster
    >>> on_cluster()
    False
    """
    from joblib.parallel import get_active_backend

    return type(get_active_backend()[0]).__name__ == "DaskDistributedBackend"


@contextlib.contextmanager
def quiet():
    """Keep what MNE, MOABB and braindecode say about themselves out of the progress bar."""
    import mne

    with mne.use_log_level("ERROR"), warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, RuntimeWarning):
            warnings.filterwarnings("ignore", category=category)
        warnings.filterwarnings("ignore", module=r"(moabb|mne|braindecode|skorch)\b")
        yield


def _count(piece, X, y):
    """Note the size of the network in a pipeline."""
    try:
        return {"n_parameters": count_parameters(piece.pipeline, X, y)}
    except Exception:  # the scores are there; a missing count must not take them down
        return {"n_parameters": None}


def _failure(piece, error, name=None):
    """Note the failure of a piece in types JSON knows."""
    ended = re.search(r"exit codes? of the workers? (?:are|is) \{(.*?)\}", _message(error))
    message = f"its process ended with {ended[1]}: a crash, or too little memory" if ended else _message(error)
    return {
        "pipeline": name or piece.name,
        "seed": piece.seed,
        "subjects": [str(subject) for subject in piece.subjects],
        "error": message,
        "traceback": "".join(traceback.format_exception(error))[-4000:],
    }


def _message(error):
    """Type and text of an exception, also of one whose text cannot be made."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}: its message cannot be shown"
