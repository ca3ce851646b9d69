"""What skeeg's own networks inherit from braindecode, imported without its warnings, and a replaceable last layer."""

import warnings

from torch import nn

with warnings.catch_warnings():
    # braindecode warns of its own use of MNE when it is imported for the first time.
    warnings.simplefilter("ignore")
    from braindecode.models.base import EEGModuleMixin
    from braindecode.modules import SafeLog, Square

__all__ = ["EEGModuleMixin", "ReplaceableHead", "SafeLog", "Square"]


class ReplaceableHead:
    """Mixin, before `EEGModuleMixin`, of a network whose last layer is one linear layer or convolution."""

    def reset_head(self, n_outputs):
        """Replace the last layer by a new one for another number of classes or targets."""
        self._set_n_outputs(n_outputs)
        old = self.final_layer
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, n_outputs)
        else:
            new = type(old)(old.in_channels, n_outputs, old.kernel_size)
        self.final_layer = new.to(old.weight)
