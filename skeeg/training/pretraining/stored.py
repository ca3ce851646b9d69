"""Trials that stay on the disk until a batch of them is asked for."""

import math

import numpy as np
import torch


class StoredTensor:
    """The first axis of a tensor, read when rows of it are asked for; it stands in for one in `GroupedTrials`.

    Parameters
    ----------
    read : callable
        Gives the rows of an integer array, as an ndarray.
    rows : ndarray of int, shape (n_rows,)
        Rows that there are, in the numbering of ``read``.
    row_shape : tuple of int
        Shape of a row.
    identity : object
        What tells the stored trials from others, for a fingerprint.
    device : torch.device or str
        Where rows are put once they are read.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skeeg.training.pretraining import StoredTensor
    >>> stored = StoredTensor(lambda rows: 10.0 * rows[:, None], np.arange(5), (1,), "tens")
    >>> stored.index_select(0, torch.tensor([3, 1])).tolist(), len(stored.index_select(0, torch.arange(5)))
    ([[30.0], [10.0]], 5)
    """

    def __init__(self, read, rows, row_shape, identity, device="cpu"):
        self.read, self.rows, self.row_shape, self.identity = read, rows, row_shape, identity
        self.device = torch.device(device)

    def __len__(self):
        """Count the rows."""
        return len(self.rows)

    def index_select(self, dim, index):
        """Read rows.

        Parameters
        ----------
        dim : int
            0.
        index : Tensor of int64
            Rows.

        Returns
        -------
        rows : Tensor, shape (n_index, ...)
            On the device.
        """
        return torch.from_numpy(self.read(self.rows[index.cpu().numpy()])).to(self.device)

    def split(self, size):
        """Read all rows, some at a time.

        Parameters
        ----------
        size : int
            Rows at a time.

        Yields
        ------
        rows : Tensor, shape (at most size, ...)
            On the device.
        """
        for index in torch.arange(len(self)).split(size):
            yield self.index_select(0, index)

    def __getitem__(self, index):
        """Leave some rows, without reading them; `index_select` reads."""
        return StoredTensor(self.read, self.rows[np.asarray(index)], self.row_shape, self.identity, self.device)

    def numel(self):
        """Count the values of all rows."""
        return len(self) * math.prod(self.row_shape)

    def to(self, device):
        """Put rows elsewhere once they are read.

        Parameters
        ----------
        device : torch.device or str
            Where.

        Returns
        -------
        stored : StoredTensor
            The same rows; nothing is read.
        """
        return StoredTensor(self.read, self.rows, self.row_shape, self.identity, device)
