"""Batches made ready by a thread while the device computes with the one before."""

from concurrent.futures import ThreadPoolExecutor

import torch


def ahead(make, items):
    """Make something of each item, the next one while the one before is in use.

    Parameters
    ----------
    make : callable
        What is done with an item; called by another thread, one call at a time and in order.
    items : iterable
        Items.

    Yields
    ------
    made : object
        What ``make`` gave for each item, in order. What it raises is raised here.

    Examples
    --------
    >>> from skeeg.training.ahead import ahead
    >>> list(ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(1) as thread:
        coming = []
        for item in items:
            coming.append(thread.submit(make, item))
            if len(coming) == 2:
                yield coming.pop(0).result()
        for last in coming:
            yield last.result()


def batches_to_gpu(take, chunks, device):
    """Batches of trials that are too many for a GPU, each copied there while it computes with the one before.

    A batch is gathered in a thread, into memory that the GPU reads by itself (pinned), and copied on a stream of its
    own, so that neither the processor nor the GPU waits for the other.

    Parameters
    ----------
    take : callable
        Gives inputs (a tensor, or a dict of them) and targets of some trials.
    chunks : iterable of Tensor
        What ``take`` is given.
    device : str
        The GPU.

    Yields
    ------
    X : Tensor or dict of str to Tensor
        Inputs, on the GPU.
    y : Tensor
        Targets, on the GPU.
    """
    stream = torch.cuda.Stream(device)

    def copy(one):
        return one.pin_memory().to(device, non_blocking=True)

    def send(chunk):
        with torch.cuda.stream(stream):
            return tuple(_each(part, copy) for part in take(chunk)), stream.record_event()

    for batch, arrived in ahead(send, chunks):
        current = torch.cuda.current_stream(device)
        current.wait_event(arrived)
        for part in batch:
            _each(part, lambda one, current=current: one.record_stream(current))  # not to be reused before it is read
        yield batch


def _each(part, do):
    """Do something with a tensor, or with each of a dict."""
    return {name: do(one) for name, one in part.items()} if isinstance(part, dict) else do(part)
