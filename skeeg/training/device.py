"""The device of a network: what ``"auto"`` takes, and copies of networks for it."""

import copy

import torch


def resolve_device(device):
    """Torch device of the parameter ``device``: ``"auto"`` takes CUDA where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: got {device!r}, expected 'auto', 'cpu', 'cuda' or 'cuda:1', ...") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: got {device!r}, but torch sees {torch.cuda.device_count()} CUDA devices.")
    return str(found)


def on_device(module, device):
    """Give a network whose tensors are on a device: the network itself on the CPU, else a copy of it."""
    return module if device == "cpu" else copy.deepcopy(module).to(device)
