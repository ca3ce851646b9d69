"""How each phase is trained, from the parameters of the estimator."""

from ...training import Recipe


def phase_recipe(estimator, phase):
    """Collect the settings of a phase.

    Parameters
    ----------
    estimator : CTAdaptTLClassifier
        Whose parameters to take.
    phase : {"pretrain", "adapt", "scratch"}
        Learning the source, fine-tuning on a person, or training on a person alone.

    Returns
    -------
    recipe : skeeg.training.Recipe
        Constant learning rate, early stopping where the phase has validation trials.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl import CTAdaptTLClassifier
    >>> from skeeg.methods.ct_adapttl.recipes import phase_recipe
    >>> recipe = phase_recipe(CTAdaptTLClassifier(max_epochs=100), "adapt")
    >>> recipe.solver, recipe.momentum, recipe.max_epochs
    ('sgd', 0.4, 100)
    """
    own = {
        "pretrain": {
            "max_epochs": estimator.pretrain_epochs,
            "batch_size": estimator.pretrain_batch_size,
            "learning_rate": estimator.pretrain_learning_rate,
            "weight_decay": estimator.weight_decay,
            "solver": estimator.pretrain_solver,
        },
        "adapt": {
            "max_epochs": estimator.adapt_epochs,
            "batch_size": estimator.batch_size,
            "learning_rate": estimator.adapt_learning_rate,
            "solver": estimator.adapt_solver,
            "momentum": 0.4,
        },
        "scratch": {
            "max_epochs": estimator.scratch_epochs,
            "batch_size": estimator.batch_size,
            "learning_rate": estimator.scratch_learning_rate,
            "weight_decay": estimator.weight_decay,
        },
    }[phase]
    if estimator.max_epochs is not None:
        own["max_epochs"] = min(estimator.max_epochs, own["max_epochs"])
    shared = {name: getattr(estimator, name) for name in ("patience", "min_delta", "precision")}
    return Recipe(schedule=None, **shared, **own).check()
