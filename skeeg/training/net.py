"""The skorch net that trains every network, and the function that trains by a recipe."""

import contextlib
import copy
import dataclasses
import math

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import ClassifierTags
from skorch import NeuralNet
from skorch.helper import predefined_split
from torch.nn.modules.batchnorm import _BatchNorm

from ..base import warn
from ..networks.fast.conv2d_gradient_fix import guard
from .callbacks import recipe_callbacks, was_interrupted
from .data import Batches, Trials
from .device import resolve_device
from .inference import head_features
from .recipe import LOSSES, SOLVERS
from .strategies import fit_probe, replace_head, trainable_part

_LEFT = 0.01  # share of where batch statistics began, before the first update, that may be left in them


class TrainingNet(NeuralNet):
    """The skorch net behind every estimator, kept as ``net_``.

    It adds to `skorch.NeuralNet`: batches by index, training mode for the trained part only (``trained``, the name of a
    submodule, or None for all), mixed ``precision`` (for ``"float64"`` the module and the trials must be so already),
    batches computed in ``accumulate`` pieces, and an ``augmentation`` that makes new inputs and targets of those of a
    training batch.
    """

    batches = Batches
    interrupted_ = property(was_interrupted, doc="Whether Ctrl-C ended the training.")

    def __init__(
        self, module, criterion, *args, trained=None, precision="float32", accumulate=1, augmentation=None, **kwargs
    ):
        super().__init__(module, criterion, *args, **kwargs)
        self.trained = trained
        self.precision = precision
        self.accumulate = accumulate
        self.augmentation = augmentation
        self.probe_features_ = None

    @property
    def _classifies(self):
        return isinstance(vars(self).get("criterion_"), torch.nn.CrossEntropyLoss)

    def __sklearn_tags__(self):
        """Be a classifier where class probabilities are trained."""
        tags = super().__sklearn_tags__()
        if self._classifies:
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        return tags

    def predict(self, X):
        """Class index of each trial, or the outputs of a network that is no classifier."""
        outputs = super().predict(X)
        return outputs.argmax(1) if self._classifies else outputs

    def get_dataset(self, X, y=None):
        """Tensors of the trials, on the training device where they fit."""
        data = X if isinstance(X, Trials) else Trials(X, y)
        if torch.device(self.device).type == "cuda":
            with contextlib.suppress(torch.cuda.OutOfMemoryError):
                return data.to(self.device)
        return data

    def get_split_datasets(self, X, y=None, **fit_params):
        """Training trials, and the validation trials given as a fixed split."""
        training, validation = super().get_split_datasets(X, y, **fit_params)
        if self._classifies and training.y.ndim == 1:  # scorers of scikit-learn ask for them
            self.classes_ = np.arange(int(training.y.max()) + 1)
        return training, None if validation is None else self.get_dataset(validation)

    def _set_training(self, training=True):
        part = self.module_.get_submodule(self.trained) if self.trained else self.module_
        if part.training != training:  # switching visits all modules, which is slow in every batch
            part.train(training)

    def infer(self, x, **fit_params):
        """Forward pass in the chosen precision."""
        is_mixed = self.precision == "bf16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16) if is_mixed else contextlib.nullcontext():
            return super().infer(x, **fit_params)

    def get_loss(self, y_pred, y_true, X=None, training=False, counts=None):
        """Loss in full precision, whatever the network computed in; ``counts`` is for criteria that take them."""
        y_pred = y_pred.float() if self.precision == "bf16" else y_pred
        return self.criterion_(y_pred, y_true.to(self.device), *(() if counts is None else (counts,)))

    def train_step_single(self, batch, **fit_params):
        """Gradient of the loss of one batch, augmented, and piece by piece with ``accumulate``."""
        if self.augmentation is not None:
            batch = self.augmentation(*batch)
        self._set_training(True)
        losses, outputs, n_trials = [], [], len(batch[1])
        for X, y, _ in self.pieces(*batch, self.count_pieces(n_trials)):
            y_pred = self.infer(X, **fit_params)
            loss = self.get_loss(y_pred, y, X=X, training=True) * (len(y) / n_trials)
            loss.backward()
            losses.append(loss.detach())
            outputs.append(y_pred.detach())
        return {"loss": sum(losses), "y_pred": torch.cat(outputs)}

    def count_pieces(self, n_trials):
        """Count the pieces, of ``batch_size`` trials, that a batch is computed in."""
        return min(self.accumulate, -(-n_trials // self.batch_size))

    def pieces(self, X, y, n_pieces):
        """Cut a batch; list inputs and targets of each piece, and the row of the batch that it begins at."""
        targets = y.tensor_split(n_pieces)
        starts = [sum(map(len, targets[:i])) for i in range(n_pieces)]
        if isinstance(X, dict):
            parts = zip(*(value.tensor_split(n_pieces) for value in X.values()), strict=True)
            inputs = [dict(zip(X, part, strict=True)) for part in parts]
        else:
            inputs = X.tensor_split(n_pieces)
        return list(zip(inputs, targets, starts, strict=True))


def class_probabilities(logits):
    """Class probabilities (n_trials, n_classes) of logits, of their mean over windows where there are several."""
    logits = logits.mean(-1) if logits.ndim == 3 else logits
    return torch.softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))


def make_loss(loss, targets=None, class_weight=None, dtype=torch.float32, n_classes=None):
    """Loss module of a name, or the module itself; ``class_weight`` as of `Recipe`, for class indices ``targets``.

    Where the targets may lack the last of the classes, ``n_classes`` says how many there are.
    """
    if isinstance(class_weight, dict) and loss != "cross_entropy":
        raise ValueError(f"class_weight: got {class_weight!r}, which needs the loss 'cross_entropy', not {loss!r}.")
    if isinstance(loss, torch.nn.Module):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss: got {loss!r}, expected one of {', '.join(map(repr, LOSSES))} or a torch module.")
    if class_weight is None or loss != "cross_entropy":
        return LOSSES[loss]()
    counts = torch.bincount(targets, minlength=n_classes or 0)
    if class_weight == "balanced":
        weights = len(targets) / (counts.count_nonzero() * counts.clamp(min=1))
    else:
        weights = torch.tensor([float(class_weight.get(i, 1.0)) for i in range(len(counts))])
    return torch.nn.CrossEntropyLoss(weight=weights.to(dtype))


def make_net(
    module, recipe, criterion, *, validation=None, device="cpu", callbacks=(), verbose=0, n_steps=1, kind=TrainingNet,
    parameter_groups=None, **parts,
):  # fmt: skip
    """Build the skorch net that follows a recipe, not initialised."""

    def grouped(parameters, **settings):
        return SOLVERS[recipe.solver](parameter_groups(module), **settings)

    classifies = isinstance(criterion, torch.nn.CrossEntropyLoss)
    own = recipe_callbacks(recipe, n_steps, validation is not None, classifies, verbose)
    on_cpu = torch.device(device).type == "cpu" or None  # there torch's default is a loop in Python, 5 times slower
    optimizer = {"weight_decay": recipe.weight_decay, "fused": on_cpu}
    if recipe.solver == "sgd":
        optimizer["momentum"] = recipe.momentum
    return kind(
        module,
        criterion,
        optimizer=SOLVERS[recipe.solver] if parameter_groups is None else grouped,
        lr=recipe.learning_rate,
        max_epochs=recipe.max_epochs - recipe.epochs_done,
        batch_size=recipe.batch_size,
        iterator_train=kind.batches,
        iterator_train__shuffle=True,
        iterator_train__batch_size=recipe.update_size,
        iterator_train__device=device,
        iterator_valid=kind.batches,
        iterator_valid__device=device,
        train_split=None if validation is None else predefined_split(validation),
        callbacks=[*own, *callbacks],
        callbacks__print_log=None,
        device=device,
        verbose=int(verbose),
        predict_nonlinearity=class_probabilities if classifies else "auto",
        precision=recipe.precision,
        accumulate=recipe.accumulate,
        **{f"optimizer__{name}": value for name, value in optimizer.items()},
        **parts,
    )


def train(
    module, X, y, recipe, *, loss="cross_entropy", validation=None, strategy="full", head="final_layer", device="auto",
    callbacks=(), verbose=0, settle=True, n_outputs=None, kind=TrainingNet, **parts,
):  # fmt: skip
    """Train a network; the only place where that happens. Give the fitted `TrainingNet`.

    ``X`` is (n_trials, n_channels, n_times) with ``y`` (n_trials,) or (n_trials, n_outputs), or `Trials`, which have
    their targets; ``validation`` is such a tuple. The module is trained in place, within `seeded`, and is left on the
    CPU, in evaluation mode. Ctrl-C ends the training early and keeps the weights reached so far. ``loss`` is a name in
    `LOSSES` or a module; ``n_outputs`` is for targets that may lack classes; ``settle`` estimates the statistics of
    batch normalisation anew (`settle_norms`); ``head`` names the last layer; ``strategy``, ``device`` and ``verbose``
    are those of `skeeg.NetworkClassifier`, ``callbacks`` its ``skorch_callbacks``; ``parts`` are ``augmentation`` of
    `TrainingNet`, and ``parameter_groups``, a function of the module that gives the optimiser's groups. ``diverged_``
    of the net is true where a trained weight is not finite.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skeeg.training import Recipe, train
    >>> X, y = np.random.default_rng(0).normal(size=(8, 2, 4)).astype("float32"), np.arange(8) % 2
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2))
    >>> len(train(module, X, y, Recipe(max_epochs=3)).history)
    3
    """
    trials, held = _as_trials(X, y), None if validation is None else _as_trials(*validation)
    settings = {"device": resolve_device(device), "callbacks": callbacks, "verbose": verbose, "kind": kind, **parts}
    module.eval()  # parts that are not trained stay so
    if strategy == "probe":
        return _probe(module, trials, recipe, loss, head, settings["device"])
    with trainable_part(module, strategy, head, recipe.lora_rank) as settings["trained"]:
        start = copy.deepcopy(module.state_dict()) if recipe.refit and held is not None else None
        while True:
            recipe, before = recipe.check().for_trials(len(trials)), count_norm_updates(module)
            dtype = torch.float64 if recipe.precision == "float64" else torch.float32
            criterion = make_loss(
                loss, trials.y if recipe.class_weight else None, recipe.class_weight, dtype, n_outputs
            )
            n_steps = _count_steps(trials, recipe) if recipe.by_step else 1
            net = make_net(module, recipe, criterion, validation=held, n_steps=n_steps, **settings)
            with guard(module, trials.take(trials.draw(4)[0])[0]):
                net.fit(trials)
            if start is None or net.interrupted_:
                break
            recipe = _refitting(recipe, net, len(trials))
            module.load_state_dict(start)
            trials, held, start = Trials(torch.cat([trials.X, held.X]), torch.cat([trials.y, held.y])), None, None
        if settle:
            settle_norms(net.module_, trials, recipe.update_size, before, kind.batches)
        net.module_.to("cpu").eval()
        trained = [parameter for parameter in net.module_.parameters() if parameter.requires_grad]
        net.diverged_ = not all(bool(torch.isfinite(parameter).all()) for parameter in trained)
    if net.diverged_:
        message = "learning_rate: the training diverged, its weights are not finite; a smaller rate may help."
        warn(message, ConvergenceWarning)
    return net


def _probe(module, trials, recipe, loss, head, device):
    """Replace the last layer by one that is fitted on the frozen features; give a net around it, without training."""
    features = head_features(module, trials.X, recipe.batch_size, head, device)
    layer = fit_probe(features, trials.y.numpy()).to(trials.X.dtype)
    replace_head(module, layer, head)
    module.eval()
    net = make_net(module, recipe, make_loss(loss)).initialize()
    net.probe_features_ = layer.in_features
    return net


def _refitting(recipe, net, n_trials):
    """Recipe of the updates that were best for the validation trials."""
    best = 1 + min(range(len(net.history)), key=lambda epoch: net.history[epoch, "valid_loss"])
    n_updates = best * math.ceil(n_trials / recipe.update_size)
    return dataclasses.replace(recipe, n_updates=n_updates, min_epochs=1, max_epochs=n_updates, refit=False)


def _count_steps(trials, recipe):
    """Count the updates of an epoch; the random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        return len(trials.draw(recipe.update_size, shuffle=True))


def _as_trials(X, y=None):
    """Trials of arrays; Trials as they are."""
    return X if isinstance(X, Trials) else Trials(X, y)


def count_norm_updates(module):
    """Count the updates that each batch normalisation has seen, by name of the layer."""
    norms = {name: layer for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)}
    return {name: int(layer.num_batches_tracked) for name, layer in norms.items() if layer.track_running_stats}


@torch.no_grad()
def settle_norms(module, trials, batch_size, before, batches=Batches):
    """Estimate running means and variances anew where training moved them too few times; weights stay as they are.

    After :math:`n` updates a running statistic with momentum :math:`m` still holds :math:`(1 - m)^n` of the zeros and
    ones it began with: more than half after 60 updates at braindecode's .01 for EEGNet, which then predicts one class.
    Where more than a hundredth is left, the statistics become the mean over the batches of one pass through the
    training trials, without dropout.
    """
    now = count_norm_updates(module)
    norms = [module.get_submodule(name) for name in now if now[name] > before.get(name, 0)]
    slow = [layer for layer in norms if layer.momentum and (1 - layer.momentum) ** layer.num_batches_tracked > _LEFT]
    module.eval()
    if not slow:
        return
    kept = [(layer.momentum, layer.num_batches_tracked.clone()) for layer in slow]
    for layer in slow:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    device = slow[0].running_mean.device
    for X, _ in batches(trials, batch_size, shuffle=True):
        module(X.to(device))
    for layer, (momentum, count) in zip(slow, kept, strict=True):
        layer.momentum = momentum
        layer.num_batches_tracked.copy_(count)
    module.eval()
