"""Which parameters decay, and how fast each learns."""

_NO_DECAY = ("cls_token", "mask_token", "time_emb", "ch_emb", "quantize.")


def decays(name, parameter):
    """Whether a parameter decays: no bias, no vector, no token, no code of positions, no codebook.

    Parameters
    ----------
    name : str
        Name of the parameter.
    parameter : Tensor
        The parameter.

    Returns
    -------
    decays : bool
        Whether it does. The weights of the fused blocks have four axes and do, as published.
    """
    return parameter.ndim > 1 and not any(part in name for part in _NO_DECAY)


def decay_groups(module):
    """Put the trainable parameters into two groups: those that decay and those that do not.

    Parameters
    ----------
    module : torch.nn.Module
        Network.

    Returns
    -------
    groups : list of dict
        As torch's optimisers take them.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    kept = [p for name, p in named if not decays(name, p)]
    return [{"params": [p for name, p in named if decays(name, p)]}, {"params": kept, "weight_decay": 0.0}]


def layer_rate(name, n_layers, decay, patches=True):
    r"""Share of the learning rate that a parameter of the encoder has.

    .. math:: d^{L + 1 - l}

    with :math:`l` 0 for the class token and the convolutions of the patches, :math:`i + 1` for block :math:`i`, and
    :math:`L + 1` for everything after the blocks.

    Parameters
    ----------
    name : str
        Name of the parameter.
    n_layers : int
        Blocks, :math:`L`.
    decay : float
        :math:`d`.
    patches : bool
        False gives the convolutions the whole rate, as the published code does.

    Returns
    -------
    share : float
        Share.

    Examples
    --------
    >>> from skeeg.methods.gram.decay import layer_rate
    >>> names = ("cls_token", "tconv.conv1.weight", "blocks.11.ln1.weight", "final_layer.bias")
    >>> [round(layer_rate(name, 12, 0.65), 4) for name in names]
    [0.0037, 0.0037, 0.65, 1.0]
    """
    depth = n_layers + 1
    if name == "cls_token" or (patches and name.startswith("tconv.")):
        depth = 0
    elif name.startswith("blocks."):
        depth = int(name.split(".")[1]) + 1
    return decay ** (n_layers + 1 - depth)


def layered_groups(module, rate, decay, patches=True):
    """Put the trainable parameters into groups by their depth and by whether they decay.

    Parameters
    ----------
    module : Gram
        Network.
    rate : float
        Learning rate of the last layer.
    decay, patches
        See `layer_rate`.

    Returns
    -------
    groups : list of dict
        As torch's optimisers take them.
    """
    groups = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            share, fades = layer_rate(name, module.sizes.n_layers, decay, patches), decays(name, parameter)
            settings = {"params": [], "lr": rate * share} | ({} if fades else {"weight_decay": 0.0})
            groups.setdefault((share, fades), settings)["params"].append(parameter)
    return list(groups.values())
