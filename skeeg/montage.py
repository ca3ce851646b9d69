"""Interpolation of any montage to the electrodes of a template, and names of electrodes.

`ChannelTemplate` multiplies each trial by a matrix, computed once for each montage: spherical splines, equal to mne's
``interpolate_to``, or inverse distances in a flat table of electrodes, as for the published weights of MIRepNet.
`draw_montages` and `montage_matrices` make random montages of a recording, for augmentation; `find_mirror` exchanges
left and right.
"""

import difflib
import re
from functools import lru_cache
from importlib.resources import files

import numpy as np
import yaml
from sklearn.utils._param_validation import StrOptions

from .base import EEGTransformer
from .covariance import inverse_sqrt, trial_covariances
from .positions import standard_montage

_NAMED = yaml.safe_load(files(__package__).joinpath("templates.yml").read_text(encoding="utf-8"))
TEMPLATES = {name: tuple(electrodes.split()) for name, electrodes in _NAMED["templates"].items()}
MONTAGES = _NAMED["montages"]
"""Common montages; of each, the electrodes that a recording has are used."""
_CENTRAL = frozenset("FC3 FC4 C5 C3 C1 C2 C4 C6 CP3 CP4".split())

# Other names of the same position. T3-T6 are the old 10-20 names; CFC is another name of FCC; T1/T2 are FT9/FT10 of
# the 10-10 system; the cerebellar CB1/CB2 and O9/O10 are I1/I2 of the 10-5 system (Oostenveld and Praamstra 2001).
_ALIASES = {
    "T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8", "T1": "FT9", "T2": "FT10",
    "CB1": "I1", "CB2": "I2", "O9": "I1", "O10": "I2",
    "CFC1": "FCC1", "CFC2": "FCC2", "CFC3": "FCC3", "CFC4": "FCC4", "CFC5": "FCC5", "CFC6": "FCC6",
    "CFC7": "FTT7", "CFC8": "FTT8", "CCP7": "TTP7", "CCP8": "TTP8",
}  # fmt: skip

# MIRepNet's flat electrode table: x to the right, for each y to the front. Crude (T7 lies twice as far out as FT7), but
# what its weights were trained with. Iz, T9 and T10, which it lacks, continue their column and row.
_FLAT_ROWS = {
    1.0: "FPZ 0",
    0.9: "FP1 -.3 FP2 .3",
    0.8: "AF7 -.3 AF3 -.2 AFZ 0 AF4 .2 AF8 .3",
    0.7: "F9 -.6 F7 -.5 F5 -.4 F3 -.3 F1 -.15 FZ 0 F2 .15 F4 .3 F6 .4 F8 .5 F10 .6",
    0.6: "FT9 -.7 FT7 -.6 FC5 -.5 FC3 -.4 FC1 -.2 FCZ 0 FC2 .2 FC4 .4 FC6 .5 FT8 .6 FT10 .7",
    0.55: "FTT9 -1.1 FTT10 1.1",
    0.5: "T9 -1.1 T7 -1.0 C5 -.7 C3 -.4 C1 -.2 CZ 0 C2 .2 C4 .4 C6 .7 T8 1.0 T10 1.1",
    0.45: "TPP7 -.9 TPP8 .9",
    0.4: "TP9 -.8 TPP9 -.7 TP7 -.6 CP5 -.5 CP3 -.4 CP1 -.2 CPZ 0 CP2 .2 CP4 .4 CP6 .5 TP8 .6 TPP10 .7 TP10 .8",
    0.3: "P9 -.6 P7 -.5 P5 -.4 P3 -.3 P1 -.15 PZ 0 P2 .15 P4 .3 P6 .4 P8 .5 P10 .6",
    0.2: "PO9 -.5 PO7 -.4 PO5 -.3 PO3 -.2 POZ 0 PO4 .2 PO6 .3 PO8 .4 PO10 .5",
    0.1: "O1 -.2 OZ 0 O2 .2",
    0.0: "IZ 0",
}
_FLAT = {
    name: (float(x), y)
    for y, row in _FLAT_ROWS.items()
    for name, x in zip(row.split()[::2], row.split()[1::2], strict=True)
}
_FLAT_TYPOS = {"FT10": (0.6, 0.7), "TPP8": (9.0, 0.45)}  # as published: FT10 on F10's place, TPP8 far outside the head


class ChannelTemplate(EEGTransformer):
    r"""Interpolate trials of any montage to the electrodes of a template.

    Parameters
    ----------
    template : str or tuple of str
        "mirepnet45", "ct_adapttl20", "gram130" (the keys of `TEMPLATES`), or the names of the wanted electrodes. A name
        such as "C3-P3" is a bipolar derivation: the first electrode minus the second.
    method : "spline" | "inverse_distance"
        "spline": spherical splines between the positions of the 10-5 system, equal to mne's ``interpolate_to``.
        "inverse_distance": MIRepNet's flat table. Both copy an electrode that was recorded.
    ch_names : tuple of str or None
        Electrodes of X, for trials that do not carry names.
    upstream_typos : bool
        Whether the flat table has the two misprints of the published code (FT10, TPP8), as in Lee2019.

    Attributes
    ----------
    matrix_ : ndarray, shape (n_template, n_channels)
        What trials of the montage seen at fit are multiplied by.
    ch_names_out_ : tuple of str, length n_template
        Electrodes of the output, in mne's spelling for the named templates.

    Notes
    -----
    :math:`Y = W X`. Splines: :math:`W = [G_{ts}\; 1] \, C^{+}` with the stiffness 4 and 50 Legendre terms of mne
    [1]_. Inverse distances: :math:`w_{tk} \propto 1 / (\lVert p_t - p_k \rVert + 10^{-6})`, rows summing to one [2]_.

    Names are read in upper and lower case, by old conventions ("T3" is "T7") and with padding, prefix and reference:
    "Fc5." (PhysioNet), "EEG FP1-REF" (TUH). `transform` accepts another montage than `fit` where trials carry names.

    References
    ----------
    .. [1] Perrin et al. (1989), Spherical splines for scalp potential and current density mapping, EEG Clin. Neurophys.
    .. [2] Liu et al. (2026), MIRepNet: a pipeline and pre-trained model for EEG-based MI classification, KBS 343.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.montage import ChannelTemplate
    >>> step = ChannelTemplate("mirepnet45", "inverse_distance", ch_names=("C3", "Cz", "C4"))
    >>> X = step.fit_transform(np.random.default_rng(0).standard_normal((5, 3, 200)))
    >>> X.shape, X.ch_names[20], step.matrix_[0].round(3).tolist()
    ((5, 45, 200), 'C3', [0.603, 0.25, 0.146])
    """

    linear_map_ = "space"
    _any_montage = True
    _parameter_constraints = {
        "template": [str, tuple, list, np.ndarray],
        "method": [StrOptions({"spline", "inverse_distance"})],
        "upstream_typos": ["boolean"],
    }

    def __init__(self, template="mirepnet45", method="spline", ch_names=None, upstream_typos=False):
        self.template = template
        self.method = method
        self.ch_names = ch_names
        self.upstream_typos = upstream_typos

    def _prepare(self, X, y):
        if X.ch_names is None:
            raise ValueError(
                "ch_names: X carries no channel names; pass ch_names=..., or trials that carry theirs "
                "(in MOABB: return_epochs=True)."
            )
        self.ch_names_out_ = template_names(self.template)
        self.matrix_ = np.array(self._matrix_for(X.ch_names))

    def _run(self, X):
        seen = X.ch_names is None or X.ch_names == self.ch_names_in_
        matrix = self.matrix_ if seen else self._matrix_for(X.ch_names)
        picks = matrix.argmax(axis=1)
        if np.array_equal(matrix, np.eye(matrix.shape[1])[picks]):  # a copy takes a quarter of the time
            data = np.take(np.asarray(X), picks, axis=1)
        else:
            data = matrix.astype(X.dtype) @ np.asarray(X)
        return X.like(data, ch_names=self.ch_names_out_)

    def _matrix_for(self, ch_names):
        return _interpolation_matrix(tuple(ch_names), self.ch_names_out_, self.method, bool(self.upstream_typos))


def template_names(template):
    """Electrodes of a template in order, by its name or the electrodes themselves."""
    if isinstance(template, str):
        if template not in TEMPLATES:
            raise ValueError(f"template: expected one of {', '.join(TEMPLATES)} or electrode names, got {template!r}.")
        return TEMPLATES[template]
    names = tuple(str(name) for name in template)
    if not names:
        raise ValueError("template: at least one electrode is needed, got none.")
    return names


def count_near(ch_names, template):
    """Count the channels within .15, in the units of the flat table, of an electrode of a template."""
    wanted = np.array([_FLAT[canonical_name(name)] for name in template_names(template)])
    places = [_FLAT[canonical_name(name)] for name in ch_names if canonical_name(name) in _FLAT]
    return sum(bool((np.linalg.norm(wanted - place, axis=1) < 0.15).any()) for place in places)


def find_electrodes(names, known, argument="ch_names", hint=""):
    """Positions of electrodes in a list of known ones, whatever their case, prefix and convention."""
    places = {canonical_name(name): i for i, name in enumerate(known)}
    places |= {_upper(name): i for i, name in enumerate(known)}  # the name itself before another one of the same place
    found = [places.get(_upper(name), places.get(canonical_name(name))) for name in names]
    missing = [name for name, place in zip(names, found, strict=True) if place is None]
    if missing:
        named = []
        for name in missing[:5]:
            near = difflib.get_close_matches(_upper(name), list(places), n=3, cutoff=0.5)
            named.append(f"{name!r} (nearest: {', '.join(known[places[one]] for one in near)})" if near else repr(name))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(f"{argument}: unknown electrode {', '.join(named)}{more}.{hint}")
    return found


def _upper(name):
    name = str(name).strip().rstrip(".").upper().removeprefix("EEG ")
    for reference in ("-REF", "-LE", "-AR"):
        name = name.removesuffix(reference)
    return name


def canonical_name(name):
    """Canonical name of an electrode: in capitals, the newer of two names, without padding, prefix and reference."""
    return _ALIASES.get(_upper(name), _upper(name))


def mirror_electrodes(ch_names):
    """Index of the electrode on the other side for each; those of the midline are their own.

    An odd number is left, the even one after it right. A ValueError names an electrode that is unknown or alone.
    """
    system = standard_montage().ch_names
    names = [system[i] for i in find_electrodes(ch_names, system)]
    others = [re.sub(r"\d+", lambda found: str(int(found[0]) - (-1) ** int(found[0])), name) for name in names]
    for name, other in zip(names, others, strict=True):
        if other not in names:
            raise ValueError(f"ch_names: the electrode {other!r} for {name!r} is missing.")
    return np.array([names.index(other) for other in others])


def mirror_classes(classes, pair=None):
    """Index of the class of the other side for each: the other label of ``pair``, or by left and right in the name.

    A ValueError names a class without another, or says that there are none to exchange.
    """
    labels = [str(label) for label in classes] if pair is None else list(classes)
    if pair is None:
        swap = {"left": "right", "right": "left"}
        others = [re.sub("left|right", lambda found: swap[found[0]], label) for label in labels]
    else:
        opposite = dict(zip(pair, reversed(pair), strict=True))
        others = [opposite.get(label, label) for label in labels]
    for label, other in zip(labels, others, strict=True):
        if other not in labels:
            raise ValueError(f"classes: the class {other!r} for {label!r} is missing.")
    if others == labels:
        raise ValueError(f"classes: expected some named left and right, got {labels}.")
    return np.array([labels.index(other) for other in others])


def find_mirror(ch_names, classes, pair=None):
    """Electrodes and classes, as indices, after left and right are exchanged; None where one has no counterpart."""
    try:
        return None if ch_names is None else (mirror_electrodes(ch_names), mirror_classes(classes, pair))
    except ValueError:
        return None


def draw_montages(ch_names, n, rng):
    """Draw ``n`` subsets of electrodes, as ascending indices: all first, then half common or all, half random.

    A random subset has 2 electrodes or more, their number uniform in the logarithm, two of them over the motor cortex
    where there are such.
    """
    names = [canonical_name(name) for name in ch_names]
    common = [[names.index(one) for one in text.split() if one in names] for text in MONTAGES.values()]
    common = [*(one for one in common if len(one) >= 2), range(len(names))]
    central = np.flatnonzero([name in _CENTRAL for name in names])
    montages = [np.arange(len(names))]
    while len(montages) < n:
        if rng.random() < 0.5:
            montages.append(np.sort(common[rng.integers(len(common))]))
            continue
        size = round(np.exp(rng.uniform(np.log(min(2, len(names))), np.log(len(names)))))
        core = rng.permutation(central)[:2]
        rest = rng.permutation(np.setdiff1d(np.arange(len(names)), core))
        montages.append(np.sort(np.r_[core, rest][:size]).astype(int))
    return montages


def montage_matrices(X, groups, n, template, rng):
    """Alignment and interpolation of each subject in ``n`` montages of its own.

    Each montage, but the first of all electrodes, has the reference of a random half of the trials or more, as
    augmentation for references of few trials.

    Shapes: ``X`` (n_trials, n_channels, n_times), ``groups`` (n_trials,); gives (n_subjects, n, n_template,
    n_channels).
    """
    covariances, made = trial_covariances(X), []
    for subject in range(groups.max() + 1):
        rows, of_subject = np.flatnonzero(groups == subject), []
        for number, picks in enumerate(draw_montages(X.ch_names, n, rng)):
            used = rows if number == 0 else rng.permutation(rows)[: rng.integers(-(-len(rows) // 2), len(rows) + 1)]
            whitener = inverse_sqrt(covariances[used].mean(axis=0)[np.ix_(picks, picks)])
            interpolation = ChannelTemplate(template, "inverse_distance").fit(X[:1, picks]).matrix_
            matrix = np.zeros((len(interpolation), X.shape[1]), dtype=X.dtype)
            matrix[:, picks] = interpolation @ whitener
            of_subject.append(matrix)
        made.append(np.stack(of_subject))
    return np.stack(made)


@lru_cache(maxsize=128)
def _interpolation_matrix(ch_names, template, method, typos):
    """Interpolation matrix, shape (n_template, n_channels); read-only because it is shared."""
    places = [canonical_name(name) for name in ch_names]
    twice = [name for name, place in zip(ch_names, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"ch_names: {', '.join(twice)} are the same electrode under more than one name.")
    parts = [name.split("-") if "-" in _upper(name) else [name] for name in template]
    electrodes = list(dict.fromkeys(part for pair in parts for part in pair))
    if method == "spline":
        rows = _spline_rows(ch_names, electrodes)
    else:
        rows = _inverse_distance_rows(ch_names, electrodes, typos)
    made = dict(zip(electrodes, rows, strict=True))
    matrix = np.array([made[first] - made[rest[0]] if rest else made[first] for first, *rest in parts])
    matrix.flags.writeable = False
    return matrix


def _inverse_distance_rows(ch_names, electrodes, typos):
    """Matrix rows: one-hot for recorded electrodes, else weights 1 / (distance + 1e-6), summing to one."""
    table = _FLAT | _FLAT_TYPOS if typos else _FLAT
    known, places = list(table), np.array(list(table.values()))
    hint = ' The flat table is small; ChannelTemplate(method="spline") knows the whole 10-5 system.'
    recorded = find_electrodes(ch_names, known, hint=hint)
    wanted = find_electrodes(electrodes, known, "template", hint)
    weights = 1 / (np.linalg.norm(places[wanted][:, None] - places[recorded][None], axis=2) + 1e-6)
    weights /= weights.sum(axis=1, keepdims=True)
    same = np.equal.outer(wanted, recorded)
    return np.where(same.any(axis=1, keepdims=True), same.astype(float), weights)


def _spline_rows(ch_names, electrodes):
    """Matrix rows: mne's ``interpolate_to`` of the identity."""
    import mne

    system = standard_montage()
    places, hint = system.get_positions(), " Pick the channels that lie on the head first."
    recorded = [system.ch_names[i] for i in find_electrodes(ch_names, system.ch_names, hint=hint)]
    wanted = [system.ch_names[i] for i in find_electrodes(electrodes, system.ch_names, "template")]
    names = list(dict.fromkeys(wanted))
    marks = {mark: places[mark] for mark in ("nasion", "lpa", "rpa", "coord_frame")}
    target = mne.channels.make_dig_montage({name: places["ch_pos"][name] for name in names}, **marks)
    info = mne.create_info(recorded, 1.0, "eeg").set_montage(system)
    with mne.use_log_level("warning"):
        evoked = mne.EvokedArray(np.eye(len(recorded)), info)
        made = evoked.interpolate_to(target, origin=sphere_centre(info, system), method="spline").data
    # Splines pass through the recorded values; mne's do up to its pseudo-inverse, about 5e-10.
    places_in = np.array([places["ch_pos"][name] for name in recorded])
    for row, name in zip(made, names, strict=True):
        same = (places_in == places["ch_pos"][name]).all(axis=1)
        if same.any():
            row[:] = same
    return made[[names.index(name) for name in wanted]]


def sphere_centre(info, system):
    """Centre of the head in metres, as mne fits it to the recorded electrodes, or to a whole system if too few."""
    from mne import create_info
    from mne.bem import fit_sphere_to_headshape

    try:
        return fit_sphere_to_headshape(info, units="m")[1]
    except ValueError:  # fewer than four electrodes above the ears
        return fit_sphere_to_headshape(create_info(system.ch_names, 1.0, "eeg").set_montage(system), units="m")[1]
