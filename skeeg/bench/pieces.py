"""The pieces a comparison is cut into, computed here or on the workers of a cluster.

A piece is one pipeline with one seed on one subject or a few. It carries all that is needed to compute it, trials
excepted: whoever computes it loads them, and keeps those loaded last for the next piece. A piece whose worker died is
therefore simply computed again by another.
"""

import contextlib
import traceback
import warnings
from dataclasses import dataclass, field

from .evaluation import count_parameters


@dataclass
class Piece:
    """One pipeline with one seed on one subject or a few."""

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
    with quiet(), _within_this_worker():
        try:
            X, y, _ = piece.evaluation.load(*asked)
        except Exception as error:  # damaged files raise anything; the other subjects go on
            computed.failure, computed.data_failed = _failure(piece, error, name="The data"), True
            return computed
        try:
            computed.rows = piece.evaluation.compute(*asked, piece.grid)
        except Exception as error:  # whatever a pipeline raises, the others go on
            computed.failure = _failure(piece, error)
            return computed
        computed.shape = {"n_channels": int(X.shape[1]), "n_times": int(X.shape[2]), "sfreq": getattr(X, "sfreq", None)}
        if piece.describe:
            computed.notes = _count(piece, X, y)
    return computed


def compute_all(pieces):
    """Compute pieces one after the other, or on the cluster that joblib was told to use.

    Parameters
    ----------
    pieces : iterable of Piece
        Pieces; taken one by one, as they are needed.

    Yields
    ------
    computed : Computed
        What came of each; on a cluster, in the order in which they are done.
    """
    from joblib import Parallel, delayed

    if on_cluster():
        # batch_size=1: joblib otherwise binds short pieces together, and a worker that dies would lose them all
        yield from Parallel(return_as="generator_unordered", batch_size=1)(delayed(compute)(piece) for piece in pieces)
    else:
        yield from map(compute, pieces)


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


def _within_this_worker():
    """Keep the folds of a piece in the worker that computes it.

    Joblib's loops inside a task of Dask go to the cluster again, whatever their ``n_jobs``; the folds would then run in
    threads beside those of other pieces and share one random state with them.
    """
    from joblib import parallel_config

    return parallel_config("sequential") if on_cluster() else contextlib.nullcontext()


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
    text = "".join(traceback.format_exception(error))
    return {
        "pipeline": name or piece.name,
        "seed": piece.seed,
        "subjects": [str(subject) for subject in piece.subjects],
        "error": f"{type(error).__name__}: {error}",
        "traceback": text[-4000:],
    }
