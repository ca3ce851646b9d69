"""Losses between predicted and measured BOLD: squared error, correlation, distance of covariances, or a mixture."""

import torch
from skorch.callbacks import Callback

NAMED = {
    "mse": (1.0, 0.0, 0.0),
    "correlation": (0.0, 1.0, 0.0),
    "mixed": (0.9, 0.1, 0.0),
    "covariance": (1.0, 0.0, 0.1),
}


def pearson(a, b, dim=-1, eps=1e-8):
    """Pearson correlation along an axis; 0 where a signal is constant.

    Parameters
    ----------
    a, b : Tensor
        Signals of the same shape.
    dim : int
        Axis of time.
    eps : float
        Smallest norm that is divided by.

    Returns
    -------
    r : Tensor
        Correlations, without the axis of time.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.losses import pearson
    >>> round(pearson(torch.arange(9.0), 3 - torch.arange(9.0)).item(), 4)
    -1.0
    """
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    return torch.nan_to_num(torch.cosine_similarity(a, b, dim=dim, eps=eps))


def covariance_distance(a, b, shrinkage=1e-3):
    r"""Affine-invariant distance between the covariances of two sets of signals.

    .. math:: d(A, B) = \sqrt{\sum_i \log^2 \lambda_i(A^{-1} B)}

    Parameters
    ----------
    a, b : Tensor, shape (..., n_regions, n_times)
        Signals.
    shrinkage : float
        Share of the mean variance that is added to the diagonals, without which few samples or equal regions give
        singular matrices. It is taken from `b`, the measured signals, for both.

    Returns
    -------
    distance : Tensor, shape (...,)
        Distances.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.losses import covariance_distance
    >>> x = torch.randn(2, 3, 50)
    >>> covariance_distance(x, x).abs().max().item() < 1e-4
    True
    """
    n_regions = a.shape[-2]
    cov_a, cov_b = _covariance(a), _covariance(b)
    level = cov_b.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp_min(1e-12)
    ridge = shrinkage * level * torch.eye(n_regions, dtype=a.dtype, device=a.device)
    factor = torch.linalg.cholesky(cov_b + ridge)
    half = torch.linalg.solve_triangular(factor, cov_a + ridge, upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    logs = torch.linalg.eigvalsh((whitened + whitened.mT) / 2).clamp_min(1e-12).log()
    return (logs.square().sum(-1) + 1e-12).sqrt()  # the root has no gradient at zero


def _covariance(x):
    x = x - x.mean(-1, keepdim=True)
    return x @ x.mT / max(x.shape[-1] - 1, 1)


class BOLDLoss(torch.nn.Module):
    r"""Weighted sum of squared error, correlation and covariance distance.

    .. math:: w_1 \,\mathrm{MSE} - w_2 \,\bar r + w_3 \min(d(\hat Y, Y), 100)

    The first and the last sample do not count for the squared error, as in the published loss. Terms of weight zero
    are not computed. Outputs that are longer than the targets are cut: the network pads its input.

    Parameters
    ----------
    mse, correlation, covariance : float
        The three weights.
    sample : int
        Sample of the outputs that a target without an axis of time stands for.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.losses import BOLDLoss
    >>> BOLDLoss(1.0)(torch.ones(2, 3, 8), torch.zeros(2, 3, 8)).item()
    1.0
    """

    def __init__(self, mse=1.0, correlation=0.0, covariance=0.0, sample=-1):
        super().__init__()
        self.mse, self.correlation, self.covariance, self.sample = mse, correlation, covariance, sample

    def forward(self, outputs, targets):
        """Loss of outputs (batch, n_regions, times) or (batch, n_regions) against targets of the same axes."""
        if targets.ndim == 2:  # one value a window: the signals run over the batch
            outputs = outputs[..., self.sample] if outputs.ndim == 3 else outputs
            outputs, targets = outputs.T[None], targets.T[None]
            inner = slice(None)
        else:
            outputs = outputs[..., : targets.shape[-1]]
            inner = slice(1, -1) if targets.shape[-1] > 2 else slice(None)
        total = outputs.new_zeros(())
        if self.mse:
            total = total + self.mse * (outputs[..., inner] - targets[..., inner]).square().mean()
        if self.correlation:
            total = total - self.correlation * pearson(outputs, targets).mean()
        if self.covariance:
            total = total + self.covariance * covariance_distance(outputs, targets).mean().clamp(0, 100)
        return total


def make_loss(loss, sample=-1):
    """Build the loss of a name or of three weights.

    Parameters
    ----------
    loss : {"mse", "correlation", "mixed", "covariance"} or tuple of 3 float
        ``"mixed"`` is 0.9 squared error and 0.1 correlation, ``"covariance"`` squared error and 0.1 distance; a tuple
        gives the weights of squared error, correlation and covariance distance.
    sample : int
        See `BOLDLoss`.

    Returns
    -------
    loss : BOLDLoss
        The loss.

    Examples
    --------
    >>> from skeeg.methods.beira.losses import make_loss
    >>> make_loss("mixed").correlation
    0.1
    """
    weights = NAMED.get(loss) if isinstance(loss, str) else loss
    good = isinstance(weights, list | tuple) and len(weights) == 3 and all(weight >= 0 for weight in weights)
    if not good or not any(weights):
        names = ", ".join(map(repr, NAMED))
        raise ValueError(f"loss: got {loss!r}, expected {names}, or three weights of which one is positive.")
    return BOLDLoss(*weights, sample)


class ValidationCorrelation(Callback):
    """Mean correlation over validation windows and regions, written into the history as ``valid_r``."""

    def on_epoch_begin(self, net, **kwargs):
        """Start summing."""
        self.total = self.count = 0

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Add one validation batch; single values have no correlation."""
        if not training and batch[1].ndim == 3:
            r = pearson(y_pred.float()[..., : batch[1].shape[-1]], batch[1].to(y_pred.device))
            self.total, self.count = self.total + float(r.sum()), self.count + r.numel()

    def on_epoch_end(self, net, **kwargs):
        """Write the mean into the history."""
        if self.count:
            net.history.record("valid_r", self.total / self.count)
