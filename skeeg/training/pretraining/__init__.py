"""The loop that every pre-training runs in: recordings of any kind, batches by shape, runs that go on where they stood.

What ranks of a distributed training would have to agree on happens in four places: the order of the batches
(`Trials.draw` and `GroupedTrials.draw`), the gradient step (`TrainingNet`), the state that is written
(`KeepRun.on_epoch_end`) and, where a network keeps statistics of its own, its own functions for them.
"""

from .groups import GroupedTrials
from .loop import pretrain
from .masking import draw_mask
from .recordings import list_recordings, name_people, read_labels
from .resume import RunFile, fingerprint, open_run
from .stored import StoredTensor
from .watch import PartsLoss, Watch

__all__ = [
    "GroupedTrials",
    "PartsLoss",
    "RunFile",
    "StoredTensor",
    "Watch",
    "draw_mask",
    "fingerprint",
    "list_recordings",
    "name_people",
    "open_run",
    "pretrain",
    "read_labels",
]
