"""BEIRA on the EEG-fMRI recordings of van der Meer et al. (2016): scores against ridge and a null, and figures.

    python benchmarks/cwl.py --folder FOLDER --subject trio1

FOLDER holds the subjects' folders. The last minute is the test, ten seconds before it are left out. The published
recipe takes hours; ``--recipe default`` takes minutes.
"""

import argparse

from skeeg import BEIRARegressor, BOLDAligner, null_scores
from skeeg.methods.beira import (
    BandPowerRidge,
    plot_branches,
    plot_region_scores,
    plot_traces,
    read_cwl,
)

INTERVAL = 1.95  # seconds between volumes


def main():
    """Fit, score, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--subject", default="trio1")
    parser.add_argument("--recipe", default="published")
    parser.add_argument("--save", metavar="FOLDER", help="where to write the figures")
    arguments = parser.parse_args()

    recording = read_cwl(arguments.folder, arguments.subject)
    recording.raw.notch_filter(range(50, 500, 50)).filter(1.0, 100.0).set_eeg_reference("average")  # as published
    training, test = recording.split(test_seconds=60.0, gap=10.0, crop_start=5.0)
    train, test = ([training.raw], [training.bold]), ([test.raw], [test.bold])
    names, aligner = recording.region_names, {"delay": 6.0, "tr": recording.marker, "rate": 100.0}
    ridge = BOLDAligner(BandPowerRidge(), **aligner).fit(*train)
    regressor = BEIRARegressor(recipe=arguments.recipe, region_names=names, random_state=0)
    beira = BOLDAligner(regressor, **aligner).fit(*train)
    null = null_scores(beira, *test, n=500, random_state=0)
    print(f"BEIRA r = {null.score:.2f} (p = {null.p_value:.3f}), ridge r = {ridge.score(*test):.2f}")
    if arguments.save:
        figures = {
            "traces": plot_traces(test[1], beira.predict(test[0]), 1 / INTERVAL, names),
            "scores": plot_region_scores(null, names),
            "branches": plot_branches(beira, n_branches=3, fmax=40),
        }
        for name, figure in figures.items():
            figure.savefig(f"{arguments.save}/{name}.png", dpi=120)


if __name__ == "__main__":
    main()
