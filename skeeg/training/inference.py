"""Running a trained network. Nothing is written to it, so threads can share one."""

import copy

import numpy as np
import torch
from torch import nn

from .device import on_device


def run_batches(module, X, batch_size, device, inputs=(), function=nn.Module.__call__):
    """Compute the outputs of a network, or a function of it, for all trials (n_trials, ...); gives (n_trials, ...)."""
    module, X = on_device(module, device), torch.from_numpy(np.asarray(X)) if isinstance(X, np.ndarray) else X
    inputs = [one.to(device) for one in inputs]
    with torch.inference_mode():
        rows = [function(module, batch.to(device), *inputs).to("cpu") for batch in X.split(batch_size)]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def head_features(module, X, batch_size=64, head="final_layer", device="cpu", inputs=()):
    """Compute what a network gives to its last layer, ndarray (n_trials, n_features); see `run_batches`."""
    shared = {id(one): one for one in (*module.parameters(), *module.buffers())}
    twin, seen = copy.deepcopy(module, shared), []
    layer = twin.get_submodule(head)
    if isinstance(layer, nn.ModuleList | nn.ModuleDict):
        raise ValueError(f"network: {type(module).__name__} has {len(layer)} last layers, so no features of one.")
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def features(twin, batch, *inputs):
        seen.clear()
        twin(batch, *inputs)
        return seen[-1].flatten(1)

    return run_batches(twin, X, batch_size, device, inputs, features).numpy()
