"""Dask clusters for comparisons: one of this machine's own, or one that is already there."""

import contextlib
import re


@contextlib.contextmanager
def dask_cluster(address):
    """Let joblib, and with it a comparison, compute on a Dask cluster.

    Pieces of the comparison are spread over the workers; results are written by this process alone. A worker that
    dies costs what it was computing, which another computes again. Where workers declare GPUs
    (``dask worker --resources "GPU=1"``), every piece takes one of them.

    Parameters
    ----------
    address : str
        ``"local:N"`` starts N worker processes on this machine and ends them afterwards; anything else, such as
        ``"tcp://HOST:PORT"``, is the address of a scheduler. Its workers need skeeg and the files of the dataset.

    Yields
    ------
    client : dask.distributed.Client
        The connection.

    Examples
    --------
    >>> from skeeg.bench import dask_cluster, run
    >>> with dask_cluster("local:2"):  # doctest: +SKIP
    ...     table = run("simulated")
    """
    import joblib

    Client, LocalCluster = _dask()
    local = re.fullmatch(r"local:(\d+)", address)
    if address.startswith("local") and (local is None or int(local[1]) < 1):
        raise ValueError(f"cluster: got {address!r}, expected 'local:N' with N worker processes, or tcp://HOST:PORT.")
    with contextlib.ExitStack() as stack:
        if local:
            stack.enter_context(_memory_kept())
            # one thread a worker: a piece computes with one thread, and torch shares its thread settings
            workers = LocalCluster(n_workers=int(local[1]), threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(workers)
        try:
            client = stack.enter_context(Client(address, timeout="30s"))
        except (OSError, TimeoutError, ValueError) as error:
            raise ValueError(f"cluster: no scheduler answers at {address!r} ({error}).") from error
        stack.enter_context(joblib.parallel_config("dask", client=client, **_resources(client)))
        yield client


def _memory_kept():
    """Let the memory of workers stay with them.

    Dask has workers return freed memory at once (``MALLOC_TRIM_THRESHOLD_``), which makes every tensor a new request to
    the system: a network of EEG trials then trains at a third of its speed.
    """
    import dask

    key = "distributed.nanny.pre-spawn-environ"
    environ = {name: value for name, value in dask.config.get(key).items() if name != "MALLOC_TRIM_THRESHOLD_"}
    return dask.config.set({key: environ})


def _resources(client):
    """Ask for one GPU a piece where workers declare them."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"resources": {"GPU": 1}} if any(one.get("resources", {}).get("GPU") for one in workers) else {}


def _dask():
    """Dask's two classes, or how to get them."""
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError("A cluster needs Dask: pip install skeeg[cluster].") from error
    return Client, LocalCluster
