"""The loop that every pre-training runs in: recordings of any kind, batches by shape, runs that go on where they stood.

Processes that train together (`ranks`) agree on the order of the batches (`SharedBatches`), on what is drawn for each
trial (`draw_mask`), on the gradient (`SharedNet`), on batch normalisations (`synced_norms`), on the state that is kept
(`KeepRun`) and, where a network has statistics of its own, by functions of its own.
"""

from . import ranks
from .groups import GroupedTrials
from .loop import pretrain
from .masking import draw_mask, hide_all_but
from .recordings import list_recordings, name_people, read_labels
from .resume import RunFile, fingerprint, open_run
from .shared import SharedBatches, SharedNet
from .stored import StoredTensor
from .watch import PartsLoss, Watch

__all__ = [
    "GroupedTrials",
    "PartsLoss",
    "RunFile",
    "SharedBatches",
    "SharedNet",
    "StoredTensor",
    "Watch",
    "draw_mask",
    "fingerprint",
    "hide_all_but",
    "list_recordings",
    "name_people",
    "open_run",
    "pretrain",
    "ranks",
    "read_labels",
]
