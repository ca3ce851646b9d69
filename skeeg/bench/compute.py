"""Jobs of a comparison, computed in processes of their own or on a Dask cluster.

A job is one pipeline with one seed on one subject. It is pickled without trials: the process that computes it loads
them, and keeps those loaded last for the next job. A pipeline that ends its process, by a crash or a lack of memory,
ends that job only.
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

from ..array import EEGArray


@dataclass
class Job:
    """One pipeline with one seed on one subject."""

    name: str
    seed: int
    subject: object
    pipeline: object
    evaluation: object
    dataset: object
    process_pipeline: object
    grid: dict | None = None


@dataclass
class JobResult:
    """Rows as MOABB has them and predictions of a job, or its failure."""

    job: Job
    rows: list = field(default_factory=list)
    predictions: list = field(default_factory=list)
    failure: dict | None = None
    data_failed: bool = False
    notes: dict = field(default_factory=dict)
    shape: dict = field(default_factory=dict)


def compute(job):
    """Compute one job; an exception becomes a failure in the result."""
    arguments = job.dataset, job.subject, job.name, job.pipeline, job.process_pipeline
    result = JobResult(job)
    with quiet():
        try:
            X, _, _ = job.evaluation.load(*arguments)
        except (Exception, SystemExit) as error:  # damaged files raise anything; the other subjects go on
            result.failure, result.data_failed = _failure(job, error, name="The data"), True
            return result
        try:
            result.rows, result.predictions = job.evaluation.compute(*arguments, job.grid)
        except (Exception, SystemExit) as error:  # whatever a pipeline raises, the others go on
            result.failure = _failure(job, error)
            return result
        result.shape = {
            "n_channels": int(X.shape[1]),
            "n_times": int(X.shape[2]),
            "sfreq": X.sfreq if isinstance(X, EEGArray) else None,
        }
        result.notes = result.predictions[0].attrs if result.predictions else {}
    return result


def compute_all(jobs, pools):
    """Yield the results of the jobs as they are done, from the processes of `worker_pools`.

    Without pools all is computed in this process. Each process is alone in its pool: the end of one fails its own job
    and no other.
    """
    if not pools:
        yield from map(compute, jobs)
        return
    jobs, running, idle = iter(jobs), {}, list(range(len(pools)))
    try:
        while True:
            while idle and (job := next(jobs, None)) is not None:
                number = idle.pop()
                try:
                    future = pools[number].submit(compute, job)
                except RuntimeError:  # its process ended while it waited for this comparison
                    _replace(pools, number)
                    future = pools[number].submit(compute, job)
                running[future] = number, job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, job = running.pop(future)
                try:
                    result = future.result()
                except Exception as error:  # its process ended, or the job cannot be sent there
                    result = JobResult(job, failure=_failure(job, error))
                    _replace(pools, number)
                idle.append(number)
                yield result
    finally:  # broken off: the pools serve later comparisons
        for future, (number, _) in running.items():
            future.cancel()
            _replace(pools, number)


@contextlib.contextmanager
def worker_pools(n_processes):
    """Pools of one process each, or none for 0; on joblib's cluster the same one, once for each of its threads.

    Comparisons that share them import everything once. Dask counts the death of a worker against every job that waits
    in it too, so that none waits there.
    """
    if on_cluster():
        from joblib.parallel import get_active_backend

        backend = get_active_backend()[0]
        pool = backend.client.get_executor(pure=False, **backend.submit_kwargs)
        pools = [pool] * sum(backend.client.nthreads().values())
    else:
        pools = [_start(n_processes) for _ in range(n_processes)]
    try:
        yield pools
    finally:
        for worker in set(pools):
            _end(worker)


def _start(n_processes):
    """Pool of one process, started when it is first needed, with its share of the cores."""
    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor

    share = str(max(1, cpu_count() // n_processes))
    threads = {f"{name}_NUM_THREADS": share for name in ("OMP", "MKL", "OPENBLAS")}
    return ProcessPoolExecutor(1, env=threads | os.environ, initializer=_end_with, initargs=(os.getpid(),))


def _replace(pools, number):
    """End one of the pools, whatever it computes, and start another in its place; a cluster does so by itself."""
    if not on_cluster():
        _end(pools[number])
        pools[number] = _start(len(pools))


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


@contextlib.contextmanager
def quiet():
    """Keep warnings of MNE, MOABB and braindecode out of the progress bar."""
    import mne

    with mne.use_log_level("ERROR"), warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, RuntimeWarning):
            warnings.filterwarnings("ignore", category=category)
        warnings.filterwarnings("ignore", module=r"(moabb|mne|braindecode|skorch)\b")
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")  # joblib starts another
        yield


def _failure(job, error, name=None):
    """Failure of a job in types JSON knows."""
    ended = re.search(r"exit codes? of the workers? (?:are|is) \{(.*?)\}", _message(error))
    message = f"its process ended with {ended[1]}: a crash, or too little memory" if ended else _message(error)
    return {
        "pipeline": name or job.name,
        "seed": job.seed,
        "subjects": [str(job.subject)],
        "error": message,
        "traceback": "".join(traceback.format_exception(error))[-4000:],
    }


def _message(error):
    """Type and text of an exception, also of one whose text cannot be made."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}: its message cannot be shown"


def on_cluster():
    """Whether joblib computes on a Dask cluster."""
    from joblib.parallel import get_active_backend

    return type(get_active_backend()[0]).__name__ == "DaskDistributedBackend"


@contextlib.contextmanager
def dask_cluster(address):
    """Let joblib, and with it a comparison, compute on a Dask cluster; a context manager that gives the client.

    ``"local:N"`` starts N worker processes on this machine and ends them afterwards; they talk by TLS with a temporary
    certificate, so that no other user of the machine can connect. Anything else is the address of a scheduler, whose
    workers need skeeg and the files of the dataset: ``"tls://HOST:PORT"`` with the certificates of Dask's configuration
    (``distributed.comm.tls``), or ``"tcp://HOST:PORT"``, which is neither encrypted nor authenticated. Jobs are spread
    over the workers; results are written by this process alone. The job of a worker that dies is computed again by
    another. Where workers declare GPUs (``dask worker --resources "GPU=1"``), every job takes one.

    Examples
    --------
    >>> from skeeg.bench import dask_cluster, run
    >>> with dask_cluster("local:2"):  # doctest: +SKIP
    ...     table = run("simulated")
    """
    import joblib

    try:
        import cryptography  # noqa: F401, certificates are made with it
        import dask.distributed as distributed
    except ImportError as error:
        raise ImportError("A cluster needs Dask: pip install skeeg[cluster].") from error
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
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        gpus = {"resources": {"GPU": 1}} if any(one.get("resources", {}).get("GPU") for one in workers) else {}
        stack.enter_context(joblib.parallel_config("dask", client=client, **gpus))
        yield client


def _local_cluster(distributed, n_workers):
    """Workers on this machine that only this process can talk to."""
    return distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,  # a job computes with one thread, and torch shares its thread settings
        security=distributed.Security.temporary(),
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        host="127.0.0.1",
    )


def _settings():
    """Dask's settings for local workers: no web pages, and freed memory stays with the process.

    Dask has workers return freed memory at once (``MALLOC_TRIM_THRESHOLD_``), which makes every tensor a new request to
    the system: a network of EEG trials then trains at a third of its speed.
    """
    import dask

    key = "distributed.nanny.pre-spawn-environ"
    environ = {name: value for name, value in dask.config.get(key).items() if name != "MALLOC_TRIM_THRESHOLD_"}
    pages = {f"distributed.{server}.http.routes": [] for server in ("scheduler", "worker", "nanny")}
    return dask.config.set({key: environ} | pages)
