"""The base of the estimators that are a network: fitting, predicting, features."""

import warnings

import numpy as np
import torch
from sklearn.base import TransformerMixin, is_classifier
from sklearn.utils.validation import check_is_fitted

from ..base import EEGEstimator, draw_seed, refuse_flat
from ..networks import get_network
from ..networks.seeding import seeded
from .augmentation import make_augmentation
from .checkpoints import has_published_weights, read_weights
from .recipe import Recipe, resolve_device
from .sizes import read_sizes, settle_sizes
from .state import NetworkState
from .strategies import check_strategy


class NetworkEstimator(TransformerMixin, EEGEstimator):
    """Base of an estimator that is a network; ``network_`` holds the network (`NetworkState`).

    A subclass has the constructor parameters of `NetworkClassifier` that are read here. It overrides

    - ``_start_network(X, n_outputs)``: gives the network for preprocessed trials, with its checkpoint;
    - ``_preprocess(X)``: trials as the network takes them but for their length; learns nothing;
    - ``_inputs(X)``: tensors that the network takes beside them;
    - ``_recipe()``, ``_criterion()``, ``_callbacks()``, ``_parameter_groups()``: how the network is trained.

    An estimator that trains or predicts in another way holds a `NetworkState` and does not inherit this class.
    """

    augmentation = None
    kernels = "auto"
    linear_map_ = "space"  # of `_preprocess`, see `EEGTransformer`; zeros at the end change nothing

    def _check_parameters(self):
        """Refuse settings that mean nothing, also those that the chosen way of training does not use."""
        super()._check_parameters()
        resolve_device(self.device)
        self._recipe().check()

    def _sizes(self, network, preset=None):
        """Arguments of the network: ``network_params``, else those of the checkpoint, else preset ones."""
        given = dict(self.network_params or {})
        if self.checkpoint is None:
            return {**(preset or {}), **given}
        found = read_sizes(get_network(network), *read_weights(self.checkpoint), self.checkpoint)
        return settle_sizes(given, found, {**(preset or {}), **found, **given})

    def _criterion(self):
        return "cross_entropy"

    def _recipe(self):
        return Recipe(**{name: value for name, value in vars(self).items() if name in Recipe.__dataclass_fields__})

    def _callbacks(self):
        return list(self.skorch_callbacks or ())

    def _parameter_groups(self):
        """Give a function from the module to the optimiser's groups, or None for one group."""
        return None

    def _fit_network(self, X, targets, n_outputs, subjects=None, warm=False):
        """Build the network for these trials and train it, or train the present one further.

        Parameters
        ----------
        X : EEGArray, shape (n_trials, n_channels, n_times)
            Preprocessed trials.
        targets : ndarray, shape (n_trials,) of int, or (n_trials, n_outputs) of float32
            Class indices or targets.
        n_outputs : int
            Outputs of the network.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, where X carries no domains.
        warm : bool
            Start from the present network.
        """
        check_strategy(self.strategy)
        refuse_flat(X)
        seed = draw_seed(self.random_state)
        with seeded(seed):
            self.network_ = self.network_.copy() if warm else self._start_network(X, int(n_outputs))
            self.network_.train(
                self.network_.pad(X), targets, self._recipe(), loss=self._criterion(), validation=self.validation,
                subjects=subjects if X.domains is None else X.domains["subject"], seed=seed, strategy=self.strategy,
                device=self.device, verbose=self.verbose, callbacks=self._callbacks(),
                augmentation=self._augment(), parameter_groups=self._parameter_groups(),
            )  # fmt: skip

    def _start_network(self, X, n_outputs):
        """Build the network, and load the checkpoint into it."""
        state = NetworkState(
            self.network, self._sizes(self.network), n_chans=X.shape[1], n_times=X.shape[2], n_outputs=n_outputs,
            sfreq=X.sfreq, ch_names=X.ch_names, precision=self._recipe().precision, kernels=self.kernels,
        ).start()  # fmt: skip
        if self.checkpoint is not None:
            state.load(self.checkpoint)
        elif has_published_weights(type(state.module)):
            warnings.warn(
                f"{type(state.module).__name__} starts from scratch, without its published weights; checkpoint= takes "
                "a file or 'hub:owner/repository/file'.",
                stacklevel=5,
            )
        return state

    def _augment(self):
        """Give a function that augments a batch, or None."""
        if self.augmentation is None:
            return None
        known = {name: self.network_.spec[name] for name in ("sfreq", "ch_names")}
        seed, classes = int(torch.randint(2**31, ())), self.classes_ if is_classifier(self) else None
        return make_augmentation(self.augmentation, **known, classes=classes, seed=seed)

    def _preprocess(self, X):
        """Trials as the network takes them, but for their length; nothing is learned."""
        return X

    def _inputs(self, X):
        """Give what the network takes beside the trials, as a tuple of tensors."""
        return ()

    def _prepare(self, X):
        """Give what the network takes.

        Parameters
        ----------
        X : EEGArray, shape (n_trials, n_channels, n_times)
            Checked trials.

        Returns
        -------
        inputs : tuple of ndarray (n_trials, n_channels, n_times), and further Tensors
            Arguments of the network.
        """
        return self.network_.pad(self._preprocess(X)), *self._inputs(X)

    def _forward(self, X):
        """Compute the outputs of the network for trials of any kind, Tensor (n_trials, n_outputs) on the CPU."""
        if not self.__sklearn_is_fitted__():  # check_is_fitted itself takes a thirtieth of the time of one trial
            check_is_fitted(self)
        inputs = self._prepare(self._check_eeg(X, reset=False, dtype=np.float32))
        return self.network_.forward(*inputs, batch_size=self.batch_size, device=self.device)

    def _probabilities(self, X):
        """Probability of each class, float64 (n_trials, n_classes), where the outputs are logits."""
        return torch.softmax(self._forward(X), dim=1, dtype=torch.float64).numpy()

    def transform(self, X):
        """Features of each trial: what the network gives to its last layer.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        features : ndarray of float32, shape (n_trials, n_features)
            Flattened features.
        """
        check_is_fitted(self)
        inputs = self._prepare(self._check_eeg(X, reset=False, dtype=np.float32))
        features = self.network_.features(*inputs, batch_size=self.batch_size, device=self.device)
        return features.astype(np.float32, copy=False)

    # Fitted attributes

    @property
    def module_(self):
        """Trained network, on the CPU, in evaluation mode."""
        return self.network_.module

    @property
    def network_spec_(self):
        """Description of the network."""
        return self.network_.spec

    @property
    def net_(self):
        """Skorch net that trained the network; a new one around it after loading."""
        if self.network_.net is None:
            self.network_.net = self.network_.untrained_net(self._recipe(), self._criterion())
        return self.network_.net

    @property
    def history_(self):
        """One record an epoch, list of dict."""
        return self.network_.history

    @property
    def n_iter_(self):
        """Epochs run; 1 where none was needed."""
        return max(len(self.network_.history), 1)

    @property
    def checkpoint_report_(self):
        """What the checkpoint brought, str or None."""
        return self.network_.report

    def __sklearn_tags__(self):
        """Declare that features are float32, as the network computes them."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_is_fitted__(self):
        """Fitted once it has a network."""
        return "network_" in vars(self)
