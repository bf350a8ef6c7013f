# SPDX-License-Identifier: Apache-2.0
"""Top-KAST: always sparse, with a larger set of weights that are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import tensorflow as tf

from rigl.checks import check_number
from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.schedules.update_window import UpdateWindow
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.kernels import as_variable
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.top_kast_rule import penalty_factors
from rigl.sparse_optimizers.two_sets import TwoSetsOptimizer
from rigl.types import GradsAndVars, Tensor, Variable


@configurable(
  unrecorded=[
    "backward_sparsity",
    "custom_sparsity_map",
    "exploration_penalty",
    "use_locking",
    "name",
    "erk_power_scale",
    "weight_decay",
    "weight_decay_filter",
    "seed",
    "mask_engine",
    "structure",
    "track_exploration",
  ]
)
class SparseTopKASTOptimizer(TwoSetsOptimizer):
  """Top-KAST: computes with the largest weights, trains some more of them.

  All weights of a layer are kept in a variable beside the kernel. Two sets of
  them are chosen again at every update,

      forward set A  = the n_A weights of largest |weight|,
      backward set B = the n_B weights of largest |weight|, which holds A,

  where n_A and n_B are what the distribution of `default_sparsity` and of
  `backward_sparsity` gives the layer. With g the dense gradient of the network
  whose kernels are the weights of A, a gradient step is, in every layer of
  density D = n_A / size,

      weights = step(weights, g + c * weights)      in A
      weights = step(weights, g + c / D * weights)  in B without A
      weights = weights                             outside of B
      kernel  = weights in A, else 0,

  where step is that of the wrapped optimizer and c is `exploration_penalty`.
  That L2 penalty shrinks what is trained, so that weights outside of B come in.

  Jayakumar et al., 2020, https://arxiv.org/abs/2106.03517, sections 2.1 to 2.3,
  who choose the sets at every step, and find every 100 steps as good. Chosen
  here: D is the density of the layer itself; slots (momentum, Adam moments) of
  weights outside of B have their initial value; the penalty takes the place of
  weight decay in sparse kernels; and after `end_step` A stays as it is, which
  ends the exploration.

  Create the masks, which are A, with `create_masks(kernels)`: training starts
  with the largest initial weights.

  Args:
    begin_step: first value of `global_step` at which the sets are chosen again,
      at least 0.
    end_step: last such value; negative for no end.
    frequency: least number of steps between two updates, at least 1.
    backward_sparsity: share of the weights outside of B over all layers, in
      [0, `default_sparsity`]; 0 trains all weights. None: that of twice as many
      weights as in A, max(2 * `default_sparsity` - 1, 0).
    mask_init_method: how both are distributed over layers: `random` (the same
      in all), `erdos_renyi`, `erdos_renyi_kernel` or `str`; the formulas are
      those of `sparse_utils.get_sparsities`. With `str`, B has
      `backward_sparsity / default_sparsity` times the sparsity of A.
    custom_sparsity_map: {layer name: sparsity in [0, 1)} of layers with a
      sparsity of their own; for B, `backward_sparsity / default_sparsity` times
      it. None: there are none.
    exploration_penalty: factor c of the penalty
      c / 2 * (sum of w^2 in A + sum of w^2 in B without A / D), at least 0.
      None: `weight_decay`, for the kernels that have it.
    weight_decay: at least 0; the gradient of another weight w becomes
      g + weight_decay * w, the gradient of loss + weight_decay * sum(w^2) / 2.
    seed: unused: nothing is random here.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active, for a sparsity of 1 - N / M; `fan_in` keeps the same
      number of connections per output. B then has the same number in every
      group as well. None: only that per layer is fixed.
    track_exploration: whether to note which connections were ever active, for
      `explored_shares`. It costs one byte per connection, in checkpoints as
      well, and no time outside of mask updates.

  Raises:
    ValueError: if an argument is not as described; `create_masks` raises it
      where a sparsity cannot be distributed over the layers.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseTopKASTOptimizer(
    ...   inner, begin_step=0, end_step=-1, frequency=100,
    ...   default_sparsity=0.9, backward_sparsity=0.8,
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.create_masks([kernel])
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    begin_step: int,
    end_step: int,
    frequency: int,
    default_sparsity: float,
    backward_sparsity: float | None = None,
    mask_init_method: str = "random",
    custom_sparsity_map: Mapping[str, float] | None = None,
    exploration_penalty: float | None = None,
    use_locking: bool = False,
    name: str | None = None,
    *,
    erk_power_scale: float = 1.0,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    track_exploration: bool = False,
  ) -> None:
    super().__init__(
      optimizer,
      default_sparsity,
      mask_init_method,
      custom_sparsity_map,
      use_locking,
      name,
      backward_sparsity=backward_sparsity,
      schedule=UpdateWindow(begin_step, end_step, frequency),
      erk_power_scale=erk_power_scale,
      weight_decay=weight_decay,
      weight_decay_filter=weight_decay_filter,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
    )
    if exploration_penalty is not None:
      check_number("exploration_penalty", exploration_penalty, 0)
    self._penalty = exploration_penalty
    self._track(track_exploration)

  def step_gradients(
    self, grads_and_vars: GradsAndVars
  ) -> list[tuple[Tensor, Variable]]:
    """The gradients of a step: in sparse kernels of B, with the penalty.

    Args:
      grads_and_vars: pairs of dense gradients of the loss, summed over
        replicas, and variables.
    """
    return [(self._of_backward_set(g, v), v) for g, v in grads_and_vars]

  def _of_backward_set(self, gradient: Tensor, variable: Variable) -> Tensor:
    layer = self._layer_of.get(id(variable))
    if layer is None:
      return self._decayed(gradient, variable)
    if self._penalty_of(layer):
      factor = self._penalty_factors(layer, gradient.dtype)
      gradient += factor * self._all_weights(layer)
    backward = self._backward[layer.name].read_value()
    return tf.where(backward, gradient, tf.zeros_like(gradient))

  def _penalty_of(self, layer: SparseLayer) -> float:
    if self._penalty is not None:
      return self._penalty
    return self._weight_decay if self._has_decay(layer.kernel) else 0.0

  def _penalty_factors(self, layer: SparseLayer, dtype: tf.DType) -> Tensor:
    """Of every weight: c in A, c / D outside; of the kernel's shape."""
    size = layer.kernel.shape.num_elements()
    group = size if layer.groups is None else layer.groups.size
    ones = self._ones_of(size, layer.groups, self._targets[layer.name])
    mask, penalty = layer.mask.read_value(), self._penalty_of(layer)
    return penalty_factors(mask, penalty, ones / group, dtype)

  def regularization_loss(self, variables: Iterable[Variable]) -> Tensor:
    """The loss whose gradient is the penalty plus the weight decay.

    Args:
      variables: those whose weights count.

    Returns:
      float32 scalar.
    """
    given = [as_variable(variable) for variable in variables]
    others = [v for v in given if id(v) not in self._layer_of]
    loss = super().regularization_loss(others)
    for layer in self._layers:
      if any(v is layer.kernel for v in given) and self._penalty_of(layer):
        dense = tf.cast(self._dense[layer.name], tf.float32)
        terms = self._penalty_factors(layer, tf.float32) * dense**2
        backward = self._backward[layer.name].read_value()
        terms = tf.where(backward, terms, tf.zeros_like(terms))
        loss += tf.reduce_sum(terms) / 2.0
    return loss

  def _after_step(self, layers: Sequence[SparseLayer]) -> list[tf.Operation]:
    operations = []
    for layer in layers:
      dense = self._dense[layer.name]
      backward = self._backward[layer.name].read_value()
      stepped = layer.kernel.read_value()
      kept = dense.assign(tf.where(backward, stepped, dense.read_value()))
      with graph_control.after(kept):
        operations += self._cleared(layer, layer.mask.read_value())
    return operations

  def _settings(self) -> dict[str, object]:
    schedule = self._schedule
    return super()._settings() | {
      "begin_step": schedule.begin_step,
      "end_step": schedule.end_step,
      "frequency": schedule.frequency,
      "backward_sparsity": self._backward_sparsity,
    }
