"""What was tried for speed and not taken up, with its number: ``python benchmarks/declined.py``.

Beside the update of an accelerated network (batch of 64 trials, 22 electrodes, 1001 samples, one thread): its weights
laid out ``channels_last``, and its forward pass in bfloat16. Beside the formula of attention: torch's fused form,
without dropout, where it is taken up, and with. Ratios above 1 are gains. Sides alternate; processor time, medians.
"""

import copy
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from kernels import build, pairs, summary, update

from skeeg.networks import accelerate

NETWORKS = ("EEGNet", "ShallowFBCSPNet", "EEGConformer")


def make_updates(name):
    """Make updates of the accelerated network as it is, in channels_last, and in bfloat16."""
    x, y = torch.randn(64, 22, 1001), torch.randint(0, 4, (64,))
    module = accelerate(build(name, 22, 1001))
    forms = {"as it is": module, "channels_last": copy.deepcopy(module).to(memory_format=torch.channels_last)}
    steps = {form: update(one, torch.optim.Adam(one.parameters(), 1e-4), x, y) for form, one in forms.items()}
    half = copy.deepcopy(module)
    step = update(half, torch.optim.Adam(half.parameters(), 1e-4), x, y)

    def in_bfloat16():
        with torch.autocast("cpu", torch.bfloat16):
            step()

    return steps | {"bfloat16": in_bfloat16}


def attend(dropout):
    """One pass of attention, 8 heads of 25 values over 400 tokens, 8 trials."""
    q = torch.randn(8, 8, 400, 25, requires_grad=True)

    def plain():
        weights = (q @ q.transpose(2, 3) / 5).softmax(3)
        (torch.nn.functional.dropout(weights, dropout) @ q).sum().backward()

    def fused():
        torch.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=dropout).sum().backward()

    return plain, fused


def main():
    """Print the ratios."""
    torch.set_num_threads(1)
    for name in NETWORKS:
        steps = make_updates(name)
        _, ratios = summary(pairs(list(steps.values()), 5, most=20.0))
        cells = [f"{form} {ratio:.2f}" for form, ratio in zip(list(steps)[1:], ratios, strict=True)]
        print(f"{name:16} {', '.join(cells)}", flush=True)
    for dropout in (0.0, 0.1):
        _, (ratio,) = summary(pairs(attend(dropout), 7))
        print(f"fused attention against its formula, dropout {dropout}: {ratio:.2f}")


if __name__ == "__main__":
    main()
