"""Statistics of the report: scores over subjects, paired comparisons, learning curves, meta-analysis."""

import itertools

import numpy as np
import pandas as pd
from scipy import stats

_PERMUTATIONS_BELOW = 20  # subjects; MOABB's own limit, above it tests with Wilcoxon's signed ranks
_EXACT_UP_TO = 13  # subjects; for more, sign flips are drawn
_N_FLIPS = 10_000


def subject_scores(table):
    """Average the scores of each subject over sessions and seeds by MOABB; missing ones are NaN."""
    from moabb.analysis.meta_analysis import collapse_session_scores

    collapsed = collapse_session_scores(table)
    scores = collapsed.pivot(index="subject", columns="pipeline", values="score")
    return scores.loc[table["subject"].drop_duplicates(), table["pipeline"].drop_duplicates()]


def summarise(table):
    """Mean, spread and cost of each pipeline, best first.

    Columns: ``mean``, ``sd`` (over subjects, n - 1), ``min``, ``max``, ``n_subjects``, ``time`` (mean seconds of one
    fit) and ``seed_sd`` (of the mean over subjects, NaN with one seed).
    """
    scores = subject_scores(table)
    per_seed = table.groupby(["pipeline", "seed", "subject"])["score"].mean().groupby(["pipeline", "seed"]).mean()
    summary = pd.DataFrame(
        {
            "mean": scores.mean(),
            "sd": scores.std(ddof=1),
            "min": scores.min(),
            "max": scores.max(),
            "n_subjects": scores.notna().sum(),
            "time": table.groupby("pipeline")["time"].mean(),
            "seed_sd": per_seed.groupby("pipeline").std(ddof=1),
        }
    )
    return summary.sort_values("mean", ascending=False, kind="stable")


def compare(table):
    """Paired comparisons of all pipelines: MOABB's statistics, intervals and corrected p-values.

    Below 20 subjects MOABB's p-value comes from a permutation test of the paired differences (exact up to 13 subjects),
    else from Wilcoxon's signed ranks; it is one-sided. The corrected one is that of the largest t statistic of all
    comparisons under sign flips of the subjects [1]_, at least the uncorrected one.

    References
    ----------
    .. [1] Nichols & Holmes (2002). Nonparametric permutation tests for functional neuroimaging. Human Brain Mapping 15.
    .. [2] Hedges & Olkin (1985). Statistical methods for meta-analysis. Academic Press.
    """
    from moabb.analysis.meta_analysis import compute_effect, compute_pvals_perm, compute_pvals_wilcoxon

    scores = subject_scores(table)
    scores = scores[summarise(table).index]
    enough = scores.notna().sum() * 2 > len(scores)
    common = scores.loc[:, enough].dropna()
    names, n_subjects = list(common.columns), len(common)
    result = {"pipelines": names, "n_subjects": n_subjects, "left_out": list(scores.columns[~enough])}
    if len(names) < 2 or n_subjects < 2:
        return result | dict.fromkeys(("difference", "p", "p_corrected", "effect"))
    if n_subjects < _PERMUTATIONS_BELOW:
        p = compute_pvals_perm(common, names, seed=0)
    else:
        p = compute_pvals_wilcoxon(common, names)
    values = common.to_numpy()
    differences, effect = values[:, :, None] - values[:, None, :], compute_effect(common, names)
    matrices = {"difference": differences.mean(axis=0), "p": p, "effect": effect}
    matrices["p_corrected"] = np.maximum(_corrected(differences), p)
    spread = differences.std(axis=0, ddof=1) / np.sqrt(n_subjects)
    half = stats.t.ppf(0.975, n_subjects - 1) * spread  # of the 95 % interval of the mean
    matrices |= {"difference_low": matrices["difference"] - half, "difference_high": matrices["difference"] + half}
    half = 1.96 * np.sqrt(1 / n_subjects + effect**2 / (2 * n_subjects))
    matrices |= {"effect_low": effect - half, "effect_high": effect + half}
    return result | {key: pd.DataFrame(value, names, names) for key, value in matrices.items()}


def _corrected(differences):
    """P-values of the differences (subjects, rows, columns), corrected by the largest t statistic of all."""
    n_subjects = len(differences)
    if n_subjects <= _EXACT_UP_TO:
        flips = np.array(list(itertools.product([1.0, -1.0], repeat=n_subjects)))
    else:
        flips = np.random.default_rng(0).choice([1.0, -1.0], (_N_FLIPS, n_subjects))
        flips[0] = 1.0
    flat = differences.reshape(n_subjects, -1)
    means, squares = flips @ flat / n_subjects, (flat**2).mean(axis=0)  # flips leave the squares as they are
    spread = np.sqrt(np.maximum(squares - means**2, 1e-12 * squares) / (n_subjects - 1))
    t = np.divide(means, spread, out=np.zeros_like(means), where=spread > 0)
    largest = np.abs(t).max(axis=1)
    p = (largest[:, None] >= t[0] * (1 - 1e-9)).mean(axis=0)
    return p.reshape(differences.shape[1:])


def meta_analysis(tables):
    """Combine the comparisons of several datasets as MOABB does: Stouffer's p-values, weighted effects.

    Gives ``pipelines`` (best first), ``mean`` (score of each pipeline on each dataset) and the matrices
    ``p``, ``p_corrected`` (Holm) and ``effect``; None where fewer than two pipelines have a score of every subject.
    """
    from moabb.analysis.meta_analysis import compute_dataset_statistics, find_significant_differences

    scores = [subject_scores(table) for table in tables]
    shared = [name for name in scores[0] if all(name in one and one[name].notna().all() for one in scores)]
    if len(tables) < 2 or len(shared) < 2 or min(map(len, scores)) < 2:
        return None
    rows = pd.concat(tables)
    rows = rows[rows["pipeline"].isin(shared)]
    p, effect = find_significant_differences(compute_dataset_statistics(rows))
    names = [table["dataset"].iloc[0] for table in tables]
    mean = pd.DataFrame({name: one[shared].mean() for name, one in zip(names, scores, strict=True)})
    order = list(mean.mean(axis=1).sort_values(ascending=False, kind="stable").index)
    p, effect = p.loc[order, order], effect.loc[order, order]
    return {"pipelines": order, "mean": mean.loc[order], "p": p, "effect": effect,
            "p_corrected": _holm(p)}  # fmt: skip


def _holm(p):
    """Holm's correction of one-sided p-values, two a pair: the smaller one counts, doubled."""
    rows, columns = np.triu_indices(len(p), 1)
    values = p.to_numpy()
    pairs = np.minimum(1.0, 2 * np.minimum(values[rows, columns], values[columns, rows]))
    order, corrected = np.argsort(pairs), np.ones(values.shape)
    held = np.maximum.accumulate(np.minimum(1.0, pairs[order] * np.arange(len(pairs), 0, -1)))
    corrected[rows[order], columns[order]] = corrected[columns[order], rows[order]] = held
    return pd.DataFrame(np.where(values <= values.T, corrected, 1.0), p.index, p.columns)


def learning_curve(table):
    """Score against the number of labelled target trials, or None with fewer than two numbers.

    Gives ``mean`` and ``sem`` (standard error over subjects) by pipeline and number.
    """
    counted = [name for name in ("n_per_class", "n_target") if name in table and table[name].nunique() > 1]
    if not counted:
        return None
    keys = ["pipeline", counted[0]]
    scores = table.astype({counted[0]: int}).groupby([*keys, "subject"], sort=False)["score"].mean()
    return scores.groupby(keys, sort=False).agg(["mean", "sem"])


def chance_level(entry):
    """Score at chance level, or None for a score it is not known of."""
    share = 1 / max(len(entry["classes"]), 1)
    return {"roc_auc": 0.5, "accuracy": share, "balanced_accuracy": share, "kappa": 0.0}.get(entry["scoring"])


def p_text(p):
    """P-value as it is printed."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
