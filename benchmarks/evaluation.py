"""A whole evaluation: skeeg's default pipelines against the same ones from mne, pyriemann and braindecode, in MOABB.

Both sides run MOABB's WithinSessionEvaluation over the same simulated subjects in one process, pipeline by pipeline in
turn, so that both meet the same machine. Networks make the same number of updates of the same size. Scores differ where
the random numbers do. Run with one thread: ``OMP_NUM_THREADS=1 python benchmarks/evaluation.py``.
"""

import argparse
import pathlib
import tempfile
import time
import warnings

import mne
import numpy as np
import torch
from braindecode import EEGClassifier
from moabb.evaluations import WithinSessionEvaluation
from pyriemann.classification import MDM
from pyriemann.estimation import Covariances
from pyriemann.geometry.base import invsqrtm
from pyriemann.geometry.mean import gmean
from pyriemann.tangentspace import TangentSpace
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import LRScheduler

from skeeg import baseline
from skeeg.bench.catalogue import get_paradigm
from skeeg.datasets import SimulatedMotorImagery
from skeeg.spatial import FilterBankCSP
from skeeg.training import get_recipe

RATE = 128.0  # of the simulated recordings


class Align(TransformerMixin, BaseEstimator):
    """Euclidean alignment of all trials together, by pyriemann's covariances."""

    def fit(self, X, y=None):
        """Estimate the reference."""
        self.whitener_ = invsqrtm(gmean(Covariances("scm").fit_transform(X), metric="euclid"))
        return self

    def transform(self, X):
        """Whiten the trials."""
        return (self.whitener_ @ X).astype(np.float32)


def band_pass(X, low, high):
    """Filter by mne."""
    return mne.filter.filter_data(X.astype(np.float64), RATE, low, high, verbose="error")


def to_250(X):
    """Resample by mne."""
    return mne.filter.resample(X.astype(np.float64), up=250.0, down=RATE).astype(np.float32)


def as_float64(X):
    """Give mne the precision it wants."""
    return X.astype(np.float64)


def network(name):
    """Network by braindecode and skorch, with the same recipe."""
    entry, ours = baseline(name)[-1], get_recipe("mirepnet-fork")
    parameters = entry.network_params or {}
    samples = {key: round(250 * float(value[:-2])) for key, value in parameters.items() if isinstance(value, str)}
    clf = EEGClassifier(
        entry.network, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam,
        optimizer__weight_decay=ours.weight_decay, lr=ours.learning_rate, max_epochs=ours.max_epochs,
        batch_size=ours.batch_size, train_split=None, iterator_train__drop_last=False, verbose=0,
        callbacks=[("lr", LRScheduler("CosineAnnealingLR", T_max=ours.max_epochs))],
        **{f"module__{key}": value for key, value in {**parameters, **samples}.items()},
    )  # fmt: skip
    return make_pipeline(Align(), FunctionTransformer(to_250), clf)


def filter_bank():
    """Filter bank of CSPs by mne."""
    bands = [
        (f"{low}-{high}", make_pipeline(FunctionTransformer(band_pass, kw_args={"low": low, "high": high}), csp(4)))
        for low, high in FilterBankCSP().bands
    ]
    return make_pipeline(FeatureUnion(bands), SelectKBest(k=10), LinearDiscriminantAnalysis())


def csp(n_components):
    """CSP by mne."""
    return make_pipeline(FunctionTransformer(as_float64), mne.decoding.CSP(n_components=n_components))


def peers():
    """Pipelines without skeeg."""
    return {
        "CSP+LDA": make_pipeline(csp(10), LinearDiscriminantAnalysis()),
        "FBCSP+LDA": filter_bank(),
        "TS+LR": make_pipeline(Covariances("oas"), TangentSpace(), LogisticRegression(max_iter=1000)),
        "MDM": make_pipeline(Covariances("oas"), MDM()),
        "ShallowConv": network("ShallowConv"),
        "EEGNet": network("EEGNet"),
    }


def evaluate(dataset, paradigm, pipeline, folder):
    """Seconds and mean score of one pipeline."""
    evaluation = WithinSessionEvaluation(
        paradigm, [dataset], overwrite=True, hdf5_path=folder, n_jobs=1, random_state=0
    )
    start = time.perf_counter()
    score = evaluation.process({"pipeline": pipeline}).score.mean()
    return time.perf_counter() - start, score


def main():
    """Print the table and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    mne.set_log_level("error")
    warnings.simplefilter("ignore")
    dataset = SimulatedMotorImagery(n_subjects=args.subjects)
    paradigm = get_paradigm(dataset)
    paradigm.get_data(dataset, [1])  # imports and caches are nobody's time
    print("| pipeline | peers, s | skeeg, s | ratio | peers, AUC | skeeg, AUC |")
    print("|---|---|---|---|---|---|", flush=True)
    totals = np.zeros(2)
    with tempfile.TemporaryDirectory() as folder:
        for name, peer in peers().items():
            (theirs, their_score), (ours, our_score) = (
                evaluate(dataset, paradigm, one, pathlib.Path(folder) / side)
                for side, one in (
                    ("peers", peer),
                    ("skeeg", baseline(name, recipe="mirepnet-fork", sfreq=RATE, random_state=0)),
                )
            )
            totals += theirs, ours
            print(
                f"| {name} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} | {their_score:.3f} | {our_score:.3f} |",
                flush=True,
            )
    print(f"| all | {totals[0]:.1f} | {totals[1]:.1f} | {totals[0] / totals[1]:.2f} | | |")
    print(f"\n{args.subjects} simulated subjects, within sessions, five folds. Both sides train the networks by")
    print('"mirepnet-fork", a recipe too short for these trials: the table is about time.')


if __name__ == "__main__":
    main()
