"""Fine-tuning: layers and their rates, statistics of the normalisation, weight interpolation."""

import contextlib

import torch

LAYERS = ("temporal", "spatial", "norm", "hidden", "final_layer")
NORMS = ("train", "source", "target")


def check_adaptation(settings):
    """Raise a ValueError that names the first setting of the fine-tuning that makes no sense.

    Parameters
    ----------
    settings : dict
        ``layers``, ``layer_decay``, ``norm`` and ``share``.
    """
    check_layers(settings["layers"])
    if settings["norm"] not in NORMS:
        raise ValueError(f"norm: got {settings['norm']!r}, expected one of {', '.join(map(repr, NORMS))}.")
    if not 0 <= settings["share"] <= 1:
        raise ValueError(f"share: got {settings['share']}, expected a number from 0 to 1.")
    if settings["layer_decay"] <= 0:
        raise ValueError(f"layer_decay: got {settings['layer_decay']}, expected a positive number.")


def check_layers(layers):
    """Names of the layers that adapt.

    Parameters
    ----------
    layers : str or tuple of str
        ``"all"``, one of `LAYERS`, or some of them.

    Returns
    -------
    layers : tuple of str
        Names, from the input to the output.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.finetuning import check_layers
    >>> check_layers(("final_layer", "hidden"))
    ('hidden', 'final_layer')
    """
    wanted = LAYERS if layers == "all" else (layers,) if isinstance(layers, str) else tuple(layers)
    unknown = [layer for layer in wanted if layer not in LAYERS]
    if unknown or not wanted:
        raise ValueError(f"layers: got {layers!r}, expected 'all' or some of {', '.join(map(repr, LAYERS))}.")
    return tuple(layer for layer in LAYERS if layer in wanted)


def layer_rates(layers, learning_rate, decay):
    r"""Give every layer its learning rate, the lower the farther from the output.

    .. math:: \eta_l = \eta \, d^{\,n_l}

    with ``n_l`` layers between layer ``l`` and the output [1]_.

    Parameters
    ----------
    layers : tuple of str
        Layers that adapt.
    learning_rate : float
        Rate of the last layer.
    decay : float
        Factor from one layer to the one before; 1 gives all the same rate.

    Returns
    -------
    make_groups : callable
        Gives the optimiser's parameter groups for a `CTAdaptTLNet`.

    References
    ----------
    .. [1] Howard, J., & Ruder, S. (2018). Universal language model fine-tuning for text classification. ACL, 328-339.
       https://doi.org/10.18653/v1/P18-1031

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.finetuning import layer_rates
    >>> from skeeg.methods.ct_adapttl.network import CTAdaptTLNet
    >>> groups = layer_rates(("hidden", "final_layer"), 0.1, 0.5)(CTAdaptTLNet(2, 3, n_times=200))
    >>> [group["lr"] for group in groups]
    [0.05, 0.1]
    """

    def make_groups(module):
        return [
            {
                "params": list(module.get_submodule(layer).parameters()),
                "lr": learning_rate * decay ** (len(LAYERS) - 1 - LAYERS.index(layer)),
            }
            for layer in layers
        ]

    return make_groups


@contextlib.contextmanager
def only_trainable(module, layers, freeze_norm):
    """Within the block, only these layers have gradients, and the normalisation may keep its statistics.

    Parameters
    ----------
    module : CTAdaptTLNet
        Network.
    layers : tuple of str
        Layers that adapt.
    freeze_norm : bool
        Normalise by the statistics there are, and leave them as they are.
    """
    frozen = [p for layer in LAYERS if layer not in layers for p in module.get_submodule(layer).parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    module.freeze_norm = freeze_norm
    try:
        yield
    finally:
        module.freeze_norm = False
        for parameter in frozen:
            parameter.requires_grad_(True)


@torch.no_grad()
def reestimate_norm(module, data):
    """Replace the statistics of the normalisation by those of unlabelled trials.

    The mean and variance of each filter over all trials and samples [1]_; the weights stay as they are.

    Parameters
    ----------
    module : CTAdaptTLNet
        Network, changed in place.
    data : ndarray, shape (n_trials, n_channels, n_times)
        Trials of the target.

    References
    ----------
    .. [1] Li, Y., Wang, N., Shi, J., Liu, J., & Hou, X. (2017). Revisiting batch normalization for practical domain
       adaptation. ICLR Workshop. https://arxiv.org/abs/1603.04779

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl.finetuning import reestimate_norm
    >>> from skeeg.methods.ct_adapttl.network import CTAdaptTLNet
    >>> net = CTAdaptTLNet(2, 3, n_times=200)
    >>> reestimate_norm(net, 100 * np.random.default_rng(0).normal(size=(8, 3, 200)).astype(np.float32))
    >>> bool(net.norm.running_var.min() > 10)
    True
    """
    total, squares, count = 0.0, 0.0, 0
    for batch in torch.as_tensor(data).split(64):
        filtered = module.front(batch).double()
        total = total + filtered.sum(dim=(0, 2))
        squares = squares + filtered.square().sum(dim=(0, 2))
        count += filtered[:, 0].numel()
    mean = total / count
    module.norm.running_mean.copy_(mean)
    module.norm.running_var.copy_((squares - count * mean.square()).clamp_min(0) / max(count - 1, 1))


def interpolate_weights(module, before, share):
    r"""Interpolate between the weights before and after fine-tuning.

    .. math:: w = w_0 + s \, (w_1 - w_0)

    Parameters
    ----------
    module : torch.nn.Module
        Fine-tuned network, changed in place.
    before : dict of str to Tensor
        Its state before fine-tuning.
    share : float
        Share of the change that is kept.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.ct_adapttl.finetuning import interpolate_weights
    >>> layer = torch.nn.Linear(1, 1)
    >>> before = {name: torch.zeros_like(value) for name, value in layer.state_dict().items()}
    >>> after = layer.weight.item()
    >>> interpolate_weights(layer, before, 0.5)
    >>> layer.weight.item() == after / 2
    True
    """
    if share == 1:
        return
    after = module.state_dict()
    mixed = {name: torch.lerp(before[name], value, share) for name, value in after.items() if value.is_floating_point()}
    torch.nn.Module.load_state_dict(module, after | mixed)
