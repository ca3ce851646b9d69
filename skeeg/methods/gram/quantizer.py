"""The codebook: nearest base class of a patch, learned as running means, started by k-means.

Processes that train together add up what they count, and take what is drawn from the first of them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ...training.pretraining import ranks

_ROWS = 4096  # patches compared with the codebook at a time


@torch.no_grad()
def nearest_codes(z, codebook):
    """Find the nearest row of a codebook by Euclidean distance.

    Parameters
    ----------
    z : Tensor, shape (n, code_dim)
        Vectors.
    codebook : Tensor, shape (n_codes, code_dim)
        Rows.

    Returns
    -------
    codes : Tensor of int64, shape (n,)
        Row of each vector.
    """
    half = codebook.square().sum(dim=1) / 2
    return torch.cat([(rows @ codebook.T).sub_(half).argmax(dim=1) for rows in z.split(_ROWS)])


@torch.no_grad()
def cosine_kmeans(z, n_codes, n_iterations=10):
    """Directions that vectors of unit length cluster around.

    Parameters
    ----------
    z : Tensor, shape (n, code_dim)
        Vectors of unit length; on every rank its own.
    n_codes : int
        Directions.
    n_iterations : int
        Rounds.

    Returns
    -------
    codebook : Tensor, shape (n_codes, code_dim)
        Of unit length, the same on every rank. A direction nothing is near to stays where it started.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram.quantizer import cosine_kmeans
    >>> z = torch.eye(2).repeat(5, 1)
    >>> cosine_kmeans(z, 2).shape
    torch.Size([2, 2])
    """
    start = _some_of(z, n_codes) if ranks.is_first() else z.new_zeros(n_codes, z.shape[1])
    ranks.add_up(start)
    codebook = F.normalize(start, dim=1)
    for _ in range(n_iterations):
        codebook, _ = _moved(codebook, z)
    return codebook


def _some_of(z, n):
    """Take n of the vectors; where they are too few, some of them twice and slightly off."""
    some = z[torch.randperm(len(z)).to(z.device)[:n]]
    again = n - len(some)
    if not again:
        return some
    more = z[torch.randint(len(z), (again,)).to(z.device)]
    return torch.cat([some, more + 0.1 * torch.randn(more.shape).to(more)])


def _moved(codebook, z, codes=None):
    """Mean direction of the vectors of each code, and their number, over all ranks."""
    codes = nearest_codes(z, codebook) if codes is None else codes
    counts = torch.zeros(len(codebook), dtype=z.dtype, device=z.device)
    sums = torch.zeros_like(codebook)
    counts.index_add_(0, codes, torch.ones_like(codes, dtype=z.dtype))
    sums.index_add_(0, codes, z)
    ranks.add_up(counts, sums)
    return torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), codebook), counts


class _Codebook(nn.Module):
    """Rows of the codebook; two of the tensors are in the published state dict and in no computation."""

    def __init__(self, n_codes, code_dim):
        super().__init__()
        rows = F.normalize(torch.randn(n_codes, code_dim), dim=1)
        self.weight = nn.Parameter(rows, requires_grad=False)
        self.cluster_size = nn.Parameter(torch.zeros(n_codes), requires_grad=False)
        self.embed_avg = nn.Parameter(rows.clone(), requires_grad=False)
        self.register_buffer("initted", torch.zeros(1))


class Quantizer(nn.Module):
    r"""Replace vectors by their nearest code; codes follow them as running means.

    .. math:: e_k \leftarrow \frac{d\,e_k + (1 - d)\,\bar z_k}{\lVert d\,e_k + (1 - d)\,\bar z_k \rVert}

    with :math:`\bar z_k` the mean direction of the vectors of code :math:`k` in the batch, over all ranks. Codes
    without any stay.

    Parameters
    ----------
    n_codes, code_dim : int
        Codes, and numbers of each.
    decay : float
        :math:`d`.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram.quantizer import Quantizer
    >>> quantised, codes, loss = Quantizer(16, 4).eval()(torch.randn(2, 5, 4))
    >>> quantised.shape, codes.shape, loss.shape
    (torch.Size([2, 5, 4]), torch.Size([2, 5]), torch.Size([2]))
    """

    def __init__(self, n_codes, code_dim, decay=0.99):
        super().__init__()
        self.decay = decay
        self.embedding = _Codebook(n_codes, code_dim)
        self.register_buffer("cluster_size", torch.zeros(n_codes))

    @property
    def codebook(self):
        """Codes, shape (n_codes, code_dim)."""
        return self.embedding.weight

    @property
    def started(self):
        """Whether the codes have been placed."""
        return bool(self.embedding.initted.item())

    def codes(self, z):
        """Nearest code of each vector.

        Parameters
        ----------
        z : Tensor, shape (..., code_dim)
            Vectors of any length.

        Returns
        -------
        codes : Tensor of int64, shape (...,)
            Rows of the codebook.
        """
        z = F.normalize(z, dim=-1)
        return nearest_codes(z.flatten(0, -2), self.codebook.to(z.dtype)).view(z.shape[:-1])

    @torch.no_grad()
    def start(self, z, n_iterations=10):
        """Place the codes by k-means.

        Parameters
        ----------
        z : Tensor, shape (n, code_dim)
            Vectors.
        n_iterations : int
            Rounds.
        """
        self.codebook.copy_(cosine_kmeans(F.normalize(z, dim=1), len(self.codebook), n_iterations))
        self.embedding.initted.fill_(1)

    def forward(self, z):
        """Replace vectors by codes; in training, where gradients are kept, move the codes.

        Parameters
        ----------
        z : Tensor, shape (batch, n_patches, code_dim)
            Vectors.

        Returns
        -------
        quantised : Tensor, shape (batch, n_patches, code_dim)
            Their codes, with the gradient of the vectors.
        codes : Tensor of int64, shape (batch, n_patches)
            Rows of the codebook.
        loss : Tensor, shape (batch,)
            Twice the mean squared distance, as published; the gradient is that of one.
        """
        z = F.normalize(z, dim=-1)
        flat = z.detach().flatten(0, 1)
        learns = self.training and torch.is_grad_enabled()  # not in a mere look at what training will do
        wanted = flat[:0] if ranks.is_idle() else flat
        if learns and not self.started:
            self.start(wanted)
        codes = nearest_codes(flat, self.codebook.to(z.dtype))
        quantised = F.embedding(codes, self.codebook.to(z.dtype)).view(z.shape)
        if learns:
            self._follow(wanted, codes[: len(wanted)])
        commitment = (z - quantised).square().mean(dim=(1, 2))
        loss = commitment + commitment.detach()
        return z + (quantised - z).detach(), codes.view(z.shape[:2]), loss

    @torch.no_grad()
    def _follow(self, z, codes):
        """Move the codes of a batch towards its vectors."""
        means, counts = _moved(self.codebook.to(z.dtype), z, codes)
        self.codebook.copy_(F.normalize(self.codebook * self.decay + means * (1 - self.decay), dim=1))
        self.cluster_size.lerp_(counts.to(self.cluster_size.dtype), 1 - self.decay)
