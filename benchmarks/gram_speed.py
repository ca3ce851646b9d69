"""How many patches a second Gram's two stages train on, beside what their matrix products alone would take.

Parts:

- ``stages``: one training step (forward, backward, AdamW) of the tokenizer and of the masked autoencoder, in patches a
  second, and the same number if the step were nothing but its matrix products at the speed that one large product
  reaches in this process;
- ``attention``: torch's fused attention kernel against the plain formula, forward and backward, with the windows that
  upstream chooses (about 256 patches), with and without dropout, in turns in one process. Dropout of the plain formula
  is that of `skeeg.networks.fast.dropout`.

On a CPU everything runs on one thread; on a GPU in bfloat16 too. Medians over rounds that alternate.

Run: ``python benchmarks/gram_speed.py [PART ...] [--size base] [--batch 8] [--device cpu] [--seconds 20]``. Rows are
added to ``benchmarks/results/gram_speed.csv``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skeeg.methods.gram.network import GramPretrainingNetwork, GramTokenizerNetwork, param_groups
from skeeg.networks.fast.dropout import Dropout
from skeeg.training.pretraining import PartsLoss

RESULTS = Path(__file__).parent / "results" / "gram_speed.csv"
N_CHANS, N_SECONDS = 32, 8  # 256 patches, as upstream


def wait_for(device):
    """Let everything that was asked of a GPU be done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def in_turns(functions, seconds, device):
    """Median seconds of each function; they are run one after the other until the time is over, twice at least."""
    for function in functions.values():
        function()
    found, start = {name: [] for name in functions}, time.perf_counter()
    while time.perf_counter() - start < seconds or len(next(iter(found.values()))) < 2:
        for name, function in functions.items():
            wait_for(device)
            begin = time.perf_counter()
            function()
            wait_for(device)
            found[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values)) for name, values in found.items()}


def precision_of(device, bf16):
    """Context of the arithmetic of a pass."""
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def make_step(stage, size, batch, device, bf16):
    """Give a function that trains once, and the floating-point operations of its matrix products."""
    torch.manual_seed(0)
    tokenizer = GramTokenizerNetwork("tiny" if size == "tiny" else "base")
    tokenizer.quantize.embedding.initted.fill_(1)
    if stage == "tokenizer":
        model, loss = tokenizer, PartsLoss(("rec_loss", "quant_loss"), (1.0, 1.0))
    else:
        model = GramPretrainingNetwork(tokenizer, size)
        loss = PartsLoss(("cls_loss", "mimic_loss", "wave_loss", "mlm_acc"), (0.5, 0.5, 0.0, 0.0))
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(param_groups(model), lr=1e-5)
    inputs = {"x": 0.3 * torch.randn(batch, N_CHANS, N_SECONDS * 200, device=device)}
    inputs["channels"] = torch.arange(N_CHANS, device=device).expand(batch, -1)
    if stage != "tokenizer":  # the trainer finds the tokens once, before
        n_codes = tokenizer.sizes.n_codes
        inputs["codes"] = torch.randint(n_codes, (batch, N_SECONDS, N_CHANS), device=device)

    def step():
        optimizer.zero_grad()
        with precision_of(device, bf16):
            outputs = model(**inputs)
        loss(outputs.float(), None).backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return step, counter.get_total_flops()


def make_product(device, bf16, n=2048):
    """Give a function that multiplies two large matrices, and its floating-point operations."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16 if bf16 else torch.float32) for _ in range(2))
    return (lambda: a @ b), 2 * n**3


def measure_stages(args, bf16):
    """Patches a second of both stages, and of their matrix products alone."""
    patches = args.batch * N_CHANS * N_SECONDS
    product, product_flops = make_product(args.device, bf16, 1024 if args.device == "cpu" else 8192)
    for stage in ("tokenizer", "autoencoder"):
        step, flops = make_step(stage, args.size, args.batch, args.device, bf16)
        took = in_turns({"step": step, "product": product}, args.seconds, args.device)
        limit = patches / (flops * took["product"] / product_flops)
        yield {
            "part": "stages", "what": stage, "patches_per_s": patches / took["step"], "limit": limit,
            "ratio": patches / took["step"] / limit, "gflop_per_s": product_flops / took["product"] / 1e9,
        }  # fmt: skip


def plain_attention(q, k, v, drop_prob):
    """Attention as its formula says."""
    scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
    return Dropout(drop_prob)(scores.softmax(dim=-1)) @ v


def measure_attention(args, bf16):
    """Fused attention against the plain formula."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    for n_tokens in (129, 256):
        for drop_prob in (0.0, 0.05):
            q, k, v = (
                torch.randn(args.batch, 10, n_tokens, 20, device=args.device, dtype=dtype, requires_grad=True)
                for _ in range(3)
            )

            def fused(q=q, k=k, v=v, p=drop_prob):
                F.scaled_dot_product_attention(q, k, v, dropout_p=p).sum().backward()

            def plain(q=q, k=k, v=v, p=drop_prob):
                plain_attention(q, k, v, p).sum().backward()

            took = in_turns({"fused": fused, "plain": plain}, args.seconds / 4, args.device)
            yield {
                "part": "attention", "what": f"{n_tokens} tokens, dropout {drop_prob}",
                "ratio": took["plain"] / took["fused"], "fused_ms": 1e3 * took["fused"],
                "plain_ms": 1e3 * took["plain"],
            }  # fmt: skip


PARTS = {"stages": measure_stages, "attention": measure_attention}


def main():
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="stages, attention; both without any")
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    if set(args.parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    is_gpu = args.device.startswith("cuda")
    name = torch.cuda.get_device_name() if is_gpu else "cpu, one thread"
    rows = []
    for bf16 in (False, True) if is_gpu else (False,):
        for part in args.parts or PARTS:
            for row in PARTS[part](args, bf16):
                rows.append({"device": name, "size": args.size, "batch": args.batch, "bf16": bf16, **row})
                print({key: round(v, 3) if isinstance(v, float) else v for key, v in rows[-1].items()}, flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    before = pd.read_csv(RESULTS) if RESULTS.is_file() else pd.DataFrame()
    pd.concat([before, pd.DataFrame(rows)]).to_csv(RESULTS, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
