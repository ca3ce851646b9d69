"""Two threads share a fitted estimator and predict, montages alternating: every result is compared with one thread's.

Run: ``python benchmarks/threads.py [--rounds 1000]``.
"""

import argparse
import pathlib
import sys
import time
import warnings

from skeeg import (
    BEIRARegressor,
    CTAdaptTLClassifier,
    EEGToMEG,
    GramClassifier,
    GramPretrainer,
    GramRestorer,
    GramTokenizer,
    MIRepNetClassifier,
    MIRepNetPretrainer,
    NetworkClassifier,
    NetworkRegressor,
)
from skeeg.testing import Recording
from skeeg.testing.recordings import data_for, fresh
from skeeg.testing.state_checks import other_recordings, predict_in_threads

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from instances import instance  # noqa: E402

ESTIMATORS = {
    **{cls.__name__: (cls, {}) for cls in (NetworkClassifier, NetworkRegressor, CTAdaptTLClassifier, BEIRARegressor)},
    **{cls.__name__: (cls, {}) for cls in (MIRepNetClassifier, MIRepNetPretrainer)},
    **{cls.__name__: (cls, {}) for cls in (GramClassifier, GramTokenizer, GramPretrainer, GramRestorer)},
    **{
        f"NetworkClassifier {name}": (NetworkClassifier, {"network": name, "network_params": None, "max_epochs": 1})
        for name in ("ADFCNN", "ShallowFBCSPNet", "EEGConformer")
    },
    "BEIRARegressor shared": (BEIRARegressor, {"network": "shared"}),
    "BEIRARegressor lstm": (BEIRARegressor, {"network": "lstm", "network_params": {"n_branches": 2, "hidden_size": 4}}),
    "EEGToMEG transformer": (EEGToMEG, {"model": "transformer"}),
    "EEGToMEG unet": (EEGToMEG, {"model": "unet"}),
}


def main():
    """Print one line for each estimator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000, help="calls of each method in each thread")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, (cls, settings) in ESTIMATORS.items():
        estimator = instance(cls).set_params(**settings)
        recording = Recording.suited_to(estimator)
        fitted = fresh(estimator).fit(*data_for(estimator, recording))
        stress(name, fitted, other_recordings(estimator, recording), args.rounds)
        if hasattr(fitted, "compile_inference"):
            stress(f"{name}, compiled", fitted.compile_inference(), other_recordings(estimator, recording), args.rounds)


def stress(name, fitted, recordings, n_rounds):
    """Print whether all results are those of one thread."""
    start = time.perf_counter()
    try:
        predict_in_threads(fitted, recordings, n_rounds)
        outcome = "equal to one thread's, to the bit"
    except Exception as error:  # noqa: BLE001 - printed
        outcome = f"{type(error).__name__}: {error}"
    shapes = ", ".join(str(one.shape) for one in recordings)
    print(f"{name:34} 2 x {n_rounds} rounds on {shapes}: {outcome} ({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
