"""The simulated recordings as MOABB datasets, apart from `motor`, which needs no MOABB."""

from dataclasses import asdict

from ...positions import standard_montage
from ..base import SkeegDataset, code_with
from .motor import CAP_22, CLASSES, TRIAL_SECONDS, VERSION, MotorSimulation


class SimulatedMotorImagery(SkeegDataset):
    """Simulated motor imagery, drawn in seconds from a seed, about as hard to decode as real recordings.

    Sensorimotor rhythms desynchronise contralateral to the imagined hand, among rhythms unrelated to the task, 1/f
    background, blinks, line noise and amplifier noise. Subjects differ in the topographies and amplitudes of their
    sources, in the band that follows the task, and in the size of the effect, down to none; positions, rhythms and
    background drift between sessions. Subject n does not depend on ``n_subjects``.

    Parameters
    ----------
    n_subjects, n_sessions, n_runs, n_trials : int
        Subjects, sessions of each, runs of each session, and trials in each run.
    task : {"imagery", "execution"}
        Execution has the same subjects; its effects are stronger, earlier, and in more bands and areas.
    classes : tuple of str
        Two or more of ``left_hand``, ``right_hand``, ``feet``, ``rest``.
    ch_names : tuple of str
        Electrodes of an MNE `montage`; the default are 22 over the motor cortex.
    montage : str
        Name of that montage.
    sfreq : float
        Sampling rate in hertz, at least 64.
    strength : float
        Factor on the effect size; 0 leaves nothing to decode.
    noise : float
        Factor on all other activity.
    line_freq : float
        Line frequency in hertz, 0 for none.
    seed : int
        Another seed, another population.
    subjects, sessions : list or None
        Select some of them; None takes all.

    Attributes
    ----------
    simulation : MotorSimulation
        Gives the same recordings as arrays.

    Notes
    -----
    Difficulty, as accuracy of CSP+LDA (six filters, 8 to 32 Hz, 4 s) over eight subjects, for seeds 0, 1 and 2:

    ====================================  ==============  ==============
    protocol                              imagery         execution
    ====================================  ==============  ==============
    within session, five folds            .74, .71, .72   .88, .88, .89
    worst to best subject                 .46 to .96      .62 to .98
    cross-session                         .67, .68, .66   .81, .81, .81
    cross-subject, not aligned            .57, .56, .55   .63, .62, .60
    cross-subject, Euclidean alignment    .75, .72, .69   .87, .86, .85
    ====================================  ==============  ==============

    Examples
    --------
    >>> from skeeg.datasets import SimulatedMotorImagery
    >>> dataset = SimulatedMotorImagery(n_subjects=2, n_sessions=1, n_trials=4, ch_names=("C3", "Cz", "C4"))
    >>> X, y = dataset.arrays(subjects=[2])
    >>> X.shape, sorted(dataset.truth(2).bands)
    ((8, 3, 512), ['beta', 'mu'])
    """

    _TASK = "imagery"

    def __init__(
        self,
        n_subjects=8,
        n_sessions=2,
        n_runs=2,
        n_trials=40,
        task=None,
        classes=("left_hand", "right_hand"),
        ch_names=CAP_22,
        montage="standard_1005",
        sfreq=128.0,
        strength=1.0,
        noise=1.0,
        line_freq=50.0,
        seed=0,
        subjects=None,
        sessions=None,
    ):
        for name, value in {"n_subjects": n_subjects, "n_sessions": n_sessions, "n_runs": n_runs}.items():
            if value < 1:
                raise ValueError(f"{name}: got {value}, expected 1 or more.")
        self.simulation = MotorSimulation(
            task=self._TASK if task is None else task,
            classes=tuple(classes),
            n_trials=int(n_trials),
            ch_names=tuple(ch_names),
            montage=montage,
            sfreq=float(sfreq),
            strength=float(strength),
            noise=float(noise),
            line_freq=float(line_freq),
            seed=int(seed),
        )
        self.n_runs = n_runs
        shape = asdict(self.simulation) | {"n_sessions": n_sessions, "n_runs": n_runs}
        standard = asdict(MotorSimulation(task=self._TASK)) | {"n_sessions": 2, "n_runs": 2}
        super().__init__(
            subjects=range(1, n_subjects + 1),
            sessions_per_subject=n_sessions,
            events={name: 1 + CLASSES.index(name) for name in self.simulation.classes},
            code=code_with(f"{type(self).__name__}-v{VERSION}", shape, standard),
            interval=[0, TRIAL_SECONDS],
            paradigm="imagery",
            selected_subjects=subjects,
            selected_sessions=sessions,
        )

    def truth(self, subject):
        """Give the informative channels, bands and times of a subject's first session; see `skeeg.datasets.Truth`."""
        return self.simulation.truth(subject)

    def _get_single_subject_data(self, subject):
        return {
            str(session): {str(run): self._record(subject, session, run) for run in range(self.n_runs)}
            for session in range(self.n_sessions)
        }

    def _record(self, subject, session, run):
        """Make one recording as MNE holds it, in volts."""
        import mne

        data, onsets, labels = self.simulation.run(subject, session, run)
        info = mne.create_info(list(self.simulation.ch_names), self.simulation.sfreq, "eeg", verbose="error")
        with info._unlock():
            info["line_freq"] = self.simulation.line_freq or None
        raw = mne.io.RawArray(data * 1e-6, info, verbose="error")
        raw.set_montage(standard_montage(self.simulation.montage), match_case=False, verbose="error")
        return raw.set_annotations(mne.Annotations(onsets, TRIAL_SECONDS, labels))


class SimulatedMotorExecution(SimulatedMotorImagery):
    """Simulated motor execution of the subjects of `SimulatedMotorImagery`: easier to decode.

    Takes the same parameters. Subject n has the same traits and sessions in both datasets.

    Examples
    --------
    >>> from skeeg.datasets import SimulatedMotorExecution, SimulatedMotorImagery
    >>> SimulatedMotorExecution().truth(3).depth > SimulatedMotorImagery().truth(3).depth
    True
    """

    _TASK = "execution"
