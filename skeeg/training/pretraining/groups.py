"""Trials of several shapes, each batch of one shape, the batches mixed within a pass."""

import bisect

import torch

from ..net import Trials


class GroupedTrials(Trials):
    """Trials in groups of equal shape; a batch comes from one group, and nothing is ever filled up.

    Trials are numbered through, group after group.

    Parameters
    ----------
    groups : list of dict of str to Tensor or StoredTensor, shape (n_trials, ...)
        Inputs of the network by name, for each group.
    shared : list of dict of str to Tensor
        Inputs that all trials of a group have in common; they are handed out with a batch axis.
    mixed : bool
        Whether a pass goes to and fro between the groups; False finishes one before it begins the next.

    Examples
    --------
    >>> import torch
    >>> from skeeg.training.pretraining import GroupedTrials
    >>> groups = [{"x": torch.zeros(3, 2)}, {"x": torch.ones(2, 5)}]
    >>> trials = GroupedTrials(groups, [{"place": torch.tensor([4])}, {"place": torch.tensor([7, 8])}])
    >>> x, y = trials.take(torch.tensor([4, 3]))
    >>> x["x"].shape, x["place"].tolist(), len(y)
    (torch.Size([2, 5]), [[7, 8], [7, 8]], 2)
    """

    def __init__(self, groups, shared, mixed=True):
        self.groups, self.shared, self.mixed = groups, shared, mixed
        self.sizes = [len(next(iter(group.values()))) for group in groups]
        self.starts = [sum(self.sizes[:i]) for i in range(len(groups))]

    def __len__(self):
        """Count the trials of all groups."""
        return sum(self.sizes)

    def __getitem__(self, index):
        """One trial, in a batch of its own."""
        return self.take(torch.tensor([index]))

    @property
    def device(self):
        """Where the trials are."""
        return next(iter(self.groups[0].values())).device

    def take(self, index):
        """Give the inputs of the trials at these indices, all of one group, and a target for each that says nothing."""
        number = bisect.bisect_right(self.starts, int(index[0])) - 1
        rows = (index - self.starts[number]).to(self.device)
        inputs = {name: value.index_select(0, rows) for name, value in self.groups[number].items()}
        inputs |= {name: value.expand(len(rows), *value.shape) for name, value in self.shared[number].items()}
        return inputs, torch.zeros(len(rows), device=self.device)

    def draw(self, batch_size, shuffle=False):
        """Draw the batches of one pass, each from one group."""
        batches = []
        for start, size in zip(self.starts, self.sizes, strict=True):
            order = torch.randperm(size) if shuffle else torch.arange(size)
            batches += [(start + chunk).to(self.device) for chunk in order.split(batch_size)]
        if shuffle and self.mixed:
            batches = [batches[i] for i in torch.randperm(len(batches)).tolist()]
        return batches

    def to(self, device):
        """Copy the trials to another device."""
        groups, shared = (
            [{name: value.to(device) for name, value in group.items()} for group in part]
            for part in (self.groups, self.shared)
        )
        return GroupedTrials(groups, shared, self.mixed)

    def subset(self, index):
        """Trials at these indices, in their order within each group.

        Parameters
        ----------
        index : array-like of int
            Any trials of any groups.

        Returns
        -------
        trials : GroupedTrials
            Groups that nothing is left of are gone.
        """
        index = torch.as_tensor(index)
        groups, shared = [], []
        for start, size, group, common in zip(self.starts, self.sizes, self.groups, self.shared, strict=True):
            rows = index[(index >= start) & (index < start + size)] - start
            if len(rows):
                groups.append({name: value[rows] for name, value in group.items()})
                shared.append(common)
        return GroupedTrials(groups, shared, self.mixed)
