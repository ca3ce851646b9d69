import itertools
import os
import signal
import sys
import time
import urllib.error
import urllib.request
import warnings

import cloudpickle
import pandas as pd
import pytest
from moabb.datasets.fake import FakeDataset
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

import skeeg.bench
from skeeg import cli
from skeeg.bench import dask_cluster
from skeeg.bench.jobs import on_cluster
from skeeg.spatial import CSP
from skeeg.training import NetworkClassifier

pytest.importorskip("dask.distributed")

SCORE = ["pipeline", "subject", "session", "seed", "score"]


class KilledOnce(TransformerMixin, BaseEstimator):
    """Ends the process it is fitted in, the first time that this happens on a cluster."""

    def __init__(self, flag):
        self.flag = flag

    def fit(self, X, y=None):
        if on_worker() and not os.path.exists(self.flag):
            open(self.flag, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def transform(self, X):
        return X


def on_worker():
    """Whether this process is a worker of Dask."""
    from dask.distributed import get_worker

    try:
        return bool(get_worker())
    except ValueError:
        return False


def dataset():
    """Noise of two subjects."""
    return FakeDataset(
        ["left_hand", "right_hand"], n_subjects=2, n_sessions=1, n_runs=1, seed=7, duration=44, n_events=20, sfreq=80
    )


def compare(out, flag):
    """Table of a small comparison of which chance decides a part."""
    pipelines = {
        "CSP+LDA": make_pipeline(CSP(), LinearDiscriminantAnalysis()),
        "CSP+forest": make_pipeline(KilledOnce(flag), CSP(), RandomForestClassifier(n_estimators=5)),
        "EEGNet": NetworkClassifier("EEGNet", sfreq=80, max_epochs=1),
    }
    return skeeg.bench.run(dataset(), pipelines=pipelines, out=out, progress=False, jobs=0)


def test_two_workers_one_of_them_killed_give_the_table_of_a_serial_run(tmp_path):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
    flag = tmp_path / "killed"
    try:
        with dask_cluster("local:2") as client:
            assert on_cluster() and len(client.scheduler_info()["workers"]) == 2
            assert client.run(os.getenv, "MALLOC_TRIM_THRESHOLD_") == dict.fromkeys(client.scheduler_info()["workers"])
            spread = compare(tmp_path / "spread", str(flag))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert flag.exists() and not on_cluster()
    serial = compare(tmp_path / "serial", str(flag))
    pd.testing.assert_frame_equal(spread[SCORE], serial[SCORE])


def test_where_workers_declare_gpus_each_job_takes_one():
    from dask.distributed import LocalCluster
    from joblib import Parallel, delayed

    def span():
        start = time.monotonic()
        time.sleep(0.1)
        return start, time.monotonic()

    threads = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    for resources, alone in (({"GPU": 1}, True), (None, False)):
        with LocalCluster(**threads, resources=resources) as workers, dask_cluster(workers.scheduler_address):
            spans = sorted(Parallel(batch_size=1)(delayed(span)() for _ in range(4)))
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)) == alone


class Kills(KilledOnce):
    """Ends every process it is fitted in."""

    def fit(self, X, y=None):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_pipeline_that_kills_its_workers_ends_alone(tmp_path):
    import dask

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pipelines = {
        "Kills": make_pipeline(Kills(""), CSP(), LinearDiscriminantAnalysis()),
        "CSP+LDA": make_pipeline(CSP(), LinearDiscriminantAnalysis()),
    }
    try:
        once = dask.config.set({"distributed.scheduler.allowed-failures": 0})
        with once, dask_cluster("local:1"), pytest.warns(UserWarning, match="Kills failed: KilledWorker"):
            table = skeeg.bench.run(dataset(), pipelines=pipelines, subjects=[1], out=tmp_path, progress=False)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert list(table.pipeline) == ["CSP+LDA"]


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_ones_own_lets_nobody_else_in_and_shows_no_page():
    from dask.distributed import Client

    with dask_cluster("local:1") as client:
        info = client.scheduler_info()
        (worker,) = info["workers"].values()
        assert info["address"].startswith("tls://127.0.0.1:")
        for port in (info["services"]["dashboard"], worker["services"].get("dashboard")):
            for page in ("status", "info/main/workers.html", "json/counts.json", "metrics"):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10)
        for address in (info["address"], info["address"].replace("tls", "tcp")):
            with pytest.raises((OSError, TypeError)):
                Client(address, timeout="2s")


def test_a_scheduler_by_tls_answers_and_one_by_tcp_is_said_to_be_open(tmp_path):
    import dask
    from dask.distributed import LocalCluster, Security

    security = Security.temporary()
    for name, text in (("ca", security.tls_ca_file), ("key", security.tls_client_key)):
        (tmp_path / name).write_text(text)
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    files = {"ca-file": "ca", "client.cert": "ca", "client.key": "key"}
    tls = {f"distributed.comm.tls.{key}": str(tmp_path / name) for key, name in files.items()}
    with (
        LocalCluster(**options, protocol="tls", security=security) as workers,
        dask.config.set(tls),
        warnings.catch_warnings(action="error", category=UserWarning),
        dask_cluster(workers.scheduler_address) as client,
    ):
        assert client.submit(sum, [1, 2]).result() == 3
    with LocalCluster(**options, protocol="tcp") as workers, pytest.warns(UserWarning, match="is not authenticated"):
        with dask_cluster(workers.scheduler_address) as client:
            assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize("address", ["local", "local:0", "local:two"])
def test_an_address_that_makes_no_sense_is_refused(address):
    with pytest.raises(ValueError, match="expected 'local:N'"), dask_cluster(address):
        pass


def test_the_command_without_dask_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    status = cli.main(
        ["bench", "--cluster", "local:2", "--evaluation", "within-session", "--subjects", "1", "--out", str(tmp_path)]
    )
    assert status == cli.WRONG and "pip install skeeg[cluster]" in capsys.readouterr().err
