"""Dask clusters for comparisons: one of this machine's own, or one that is already there."""

import contextlib
import re
import warnings


@contextlib.contextmanager
def dask_cluster(address):
    """Let joblib, and with it a comparison, compute on a Dask cluster.

    Pieces of the comparison are spread over the workers; results are written by this process alone. A worker that
    dies costs what it was computing, which another computes again. Where workers declare GPUs
    (``dask worker --resources "GPU=1"``), every piece takes one of them.

    Parameters
    ----------
    address : str
        ``"local:N"`` starts N worker processes on this machine and ends them afterwards; they talk by TLS with a
        certificate of their own, so that no other user of the machine can connect. Anything else is the address of a
        scheduler, whose workers need skeeg and the files of the dataset: ``"tls://HOST:PORT"`` with the certificates of
        Dask's configuration (``distributed.comm.tls``), or ``"tcp://HOST:PORT"``, which is neither encrypted nor
        authenticated.

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

    distributed = _dask()
    local = re.fullmatch(r"local:(\d+)", address)
    if address.startswith("local") and (local is None or int(local[1]) < 1):
        raise ValueError(f"cluster: got {address!r}, expected 'local:N' with N worker processes, or tls://HOST:PORT.")
    with contextlib.ExitStack() as stack:
        if local:
            stack.enter_context(_settings())
            address = stack.enter_context(_local_cluster(distributed, int(local[1])))
        elif not address.startswith(("tls://", "inproc://")):
            warnings.warn(f"cluster: {address} is not authenticated: whoever reaches it can run code as you. Use tls://.",
                          stacklevel=3)  # fmt: skip
        try:
            client = stack.enter_context(distributed.Client(address, timeout="30s"))
            client.wait_for_workers(1, timeout="30s")
        except (OSError, TimeoutError, ValueError) as error:
            raise ValueError(f"cluster: no scheduler with workers answers at {address!r} ({error}).") from error
        stack.enter_context(joblib.parallel_config("dask", client=client, **_resources(client)))
        yield client


def _local_cluster(distributed, n_workers):
    """Workers on this machine that only this process can talk to."""
    return distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,  # a piece computes with one thread, and torch shares its thread settings
        security=distributed.Security.temporary(),
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        host="127.0.0.1",
    )


def _settings():
    """Dask's settings for workers of one's own: no pages about them, and memory stays with them.

    Dask has workers return freed memory at once (``MALLOC_TRIM_THRESHOLD_``), which makes every tensor a new request to
    the system: a network of EEG trials then trains at a third of its speed.
    """
    import dask

    key = "distributed.nanny.pre-spawn-environ"
    environ = {name: value for name, value in dask.config.get(key).items() if name != "MALLOC_TRIM_THRESHOLD_"}
    pages = {f"distributed.{server}.http.routes": [] for server in ("scheduler", "worker", "nanny")}
    return dask.config.set({key: environ} | pages)


def _resources(client):
    """Ask for one GPU a piece where workers declare them."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"resources": {"GPU": 1}} if any(one.get("resources", {}).get("GPU") for one in workers) else {}


def _dask():
    """Dask's module, or how to get it."""
    try:
        import cryptography  # noqa: F401, certificates are made with it
        import dask.distributed as distributed
    except ImportError as error:
        raise ImportError("A cluster needs Dask: pip install skeeg[cluster].") from error
    return distributed
