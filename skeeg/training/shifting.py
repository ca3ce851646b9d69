"""Random shifts of the training trials in time, for classes that differ in rhythms and not in when they occur."""

import torch
from skorch.callbacks import Callback


class TimeShift(Callback):
    """Move every training trial in time, what leaves at one end entering at the other; drawn anew at each update.

    The power of each channel and frequency and all covariances stay as they are, so the classes of motor imagery do;
    responses that are locked to a stimulus do not.

    Parameters
    ----------
    share : float
        Largest shift to either side, as a share of the trial; .5 draws from all shifts.

    Examples
    --------
    >>> import torch
    >>> from skeeg.training.shifting import TimeShift
    >>> X = torch.arange(4.0).expand(2, 1, 4).clone()
    >>> TimeShift(0.5).on_batch_begin(None, (X, torch.zeros(2)), training=True)
    >>> X.sort(-1).values.tolist()
    [[[0.0, 1.0, 2.0, 3.0]], [[0.0, 1.0, 2.0, 3.0]]]
    """

    def __init__(self, share=0.5):
        self.share = share

    @torch.no_grad()
    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Shift a batch in place: it was gathered for this update alone."""
        if training:
            X, n_times = batch[0], batch[0].shape[-1]
            most = int(self.share * n_times)
            lags = torch.randint(
                -most, most + 1, (len(X), 1, 1)
            )  # on the CPU, so that a seed means the same everywhere
            index = (torch.arange(n_times) + lags) % n_times
            X.copy_(X.gather(-1, index.to(X.device).expand_as(X)))
