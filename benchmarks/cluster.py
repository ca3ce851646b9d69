"""What a cluster of worker processes saves: the default comparison here, with one worker, and with two.

Printed for each: seconds until the workers are there, seconds of the comparison, and how much of the processors' time
went to anything else than pieces (starting, importing in every worker, loading the trials in every worker, waiting for
the last piece). The tables must be equal. Run: ``python benchmarks/cluster.py [--subjects 8]``.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import contextlib
import tempfile
import time

from skeeg.bench import dask_cluster, run
from skeeg.datasets import SimulatedMotorImagery

SCORE = ["pipeline", "subject", "session", "seed", "score"]


def measure(workers, n_subjects):
    """Seconds until workers are there, seconds of the run, its table."""
    start = time.perf_counter()
    with dask_cluster(f"local:{workers}") if workers else contextlib.nullcontext() as client:
        if client is not None:
            client.wait_for_workers(workers)
        ready = time.perf_counter()
        table = run(SimulatedMotorImagery(n_subjects=n_subjects), out=tempfile.mkdtemp(), progress=False)
        return ready - start, time.perf_counter() - ready, table


def main():
    """Run the three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=8)
    n_subjects = parser.parse_args().subjects
    measure(0, 1)  # imports
    alone = None
    print("| workers | until they are there, s | comparison, s | times faster | share lost | same table |")
    print("|---|---|---|---|---|---|")
    for workers in (0, 1, 2):
        waited, seconds, table = measure(workers, n_subjects)
        alone = alone or (seconds, table[SCORE])
        lost = 1 - alone[0] / (seconds * max(workers, 1))
        cells = [str(workers or "none"), f"{waited:.1f}", f"{seconds:.1f}", f"{alone[0] / seconds:.2f}", f"{lost:.0%}"]
        print("|", " | ".join([*cells, "yes" if table[SCORE].equals(alone[1]) else "NO"]), "|", flush=True)


if __name__ == "__main__":
    main()
