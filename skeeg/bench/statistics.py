"""Figures of the report: scores over subjects and MOABB's paired statistics."""

import pandas as pd

_PERMUTATIONS_BELOW = 20  # subjects; MOABB's own limit, above it tests with Wilcoxon's signed ranks
SCORES = {"roc_auc": "ROC AUC", "accuracy": "Accuracy"}
_CHANCE = {"roc_auc": lambda n_classes: 0.5, "accuracy": lambda n_classes: 1 / n_classes}


def subject_scores(table):
    """Score of each subject, averaged over sessions and seeds by MOABB.

    Parameters
    ----------
    table : DataFrame
        Rows with ``pipeline``, ``dataset``, ``subject`` and ``score``, of one dataset.

    Returns
    -------
    scores : DataFrame, shape (n_subjects, n_pipelines)
        Missing pieces are NaN.

    Examples
    --------
    >>> import pandas as pd
    >>> from skeeg.bench.statistics import subject_scores
    >>> rows = pd.DataFrame({"pipeline": ["A", "A"], "dataset": "D", "subject": "1", "score": [0.5, 0.7]})
    >>> float(subject_scores(rows).loc["1", "A"])
    0.6
    """
    from moabb.analysis.meta_analysis import collapse_session_scores

    collapsed = collapse_session_scores(table)
    scores = collapsed.pivot(index="subject", columns="pipeline", values="score")
    return scores.loc[table["subject"].drop_duplicates(), table["pipeline"].drop_duplicates()]


def summarise(table):
    """Mean, spread and cost of each pipeline, best first.

    Parameters
    ----------
    table : DataFrame
        Rows of one comparison.

    Returns
    -------
    summary : DataFrame
        Indexed by pipeline: ``mean``, ``sd`` (over subjects, n - 1), ``min``, ``max``, ``n_subjects``, ``time`` (mean
        seconds of one fit) and ``seed_sd`` (of the mean over subjects, NaN with one seed).
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
    """Paired comparisons of all pipelines with MOABB's statistics.

    Below 20 subjects the p-value comes from a permutation test of the paired differences (exact up to 13 subjects),
    else from Wilcoxon's signed ranks; it is one-sided and not corrected for the number of comparisons.

    Parameters
    ----------
    table : DataFrame
        Rows of one comparison.

    Returns
    -------
    comparisons : dict
        ``pipelines`` (best first), ``n_subjects``, ``left_out`` (pipelines that miss too many subjects) and the
        matrices ``difference`` (row minus column), ``p`` (small where the row is better) and ``effect`` (mean over
        standard deviation of the differences), each a DataFrame, or None with fewer than two pipelines or subjects.
    """
    from moabb.analysis.meta_analysis import compute_effect, compute_pvals_perm, compute_pvals_wilcoxon

    scores = subject_scores(table)
    scores = scores[summarise(table).index]
    enough = scores.notna().sum() * 2 > len(scores)
    common = scores.loc[:, enough].dropna()
    names = list(common.columns)
    result = {"pipelines": names, "n_subjects": len(common), "left_out": list(scores.columns[~enough])}
    if len(names) < 2 or len(common) < 2:
        return result | {"difference": None, "p": None, "effect": None}
    if len(common) < _PERMUTATIONS_BELOW:
        p = compute_pvals_perm(common, names, seed=0)
    else:
        p = compute_pvals_wilcoxon(common, names)
    means = common.mean().to_numpy()
    matrices = {"difference": means[:, None] - means[None], "p": p, "effect": compute_effect(common, names)}
    return result | {key: pd.DataFrame(value, names, names) for key, value in matrices.items()}


def learning_curve(table):
    """Score against the number of labelled target trials.

    Parameters
    ----------
    table : DataFrame
        Rows of one comparison.

    Returns
    -------
    curve : DataFrame or None
        ``mean`` and ``sem`` (standard error over subjects) by pipeline and number; None with fewer than two numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> from skeeg.bench.statistics import learning_curve
    >>> rows = [("A", "1", 5, 0.6), ("A", "2", 5, 0.8), ("A", "1", 10, 0.7), ("A", "2", 10, 0.9)]
    >>> table = pd.DataFrame(rows, columns=["pipeline", "subject", "n_per_class", "score"])
    >>> learning_curve(table)["mean"].round(2).tolist()
    [0.7, 0.8]
    """
    counted = [name for name in ("n_per_class", "n_target") if name in table and table[name].nunique() > 1]
    if not counted:
        return None
    keys = ["pipeline", counted[0]]
    scores = table.astype({counted[0]: int}).groupby([*keys, "subject"], sort=False)["score"].mean()
    return scores.groupby(keys, sort=False).agg(["mean", "sem"])


def chance_level(entry):
    """Score of guessing, or None for a score it is not known of.

    Parameters
    ----------
    entry : dict
        Settings of a run, with ``scoring`` and ``classes``.

    Returns
    -------
    chance : float or None
        0.5 for ROC AUC, one over the number of classes for accuracy.

    Examples
    --------
    >>> from skeeg.bench.statistics import chance_level
    >>> chance_level({"scoring": "accuracy", "classes": ["feet", "left_hand", "right_hand", "tongue"]})
    0.25
    """
    rule = _CHANCE.get(entry["scoring"])
    return rule(len(entry["classes"])) if rule else None


def p_text(p):
    """P-value as it is printed.

    Examples
    --------
    >>> from skeeg.bench.statistics import p_text
    >>> p_text(0.0004), p_text(0.0312)
    ('< 0.001', '0.031')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
