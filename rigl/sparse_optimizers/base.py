"""What every sparse optimizer shares: masks, the masked step, replicas.

Which connections a method drops and grows, and when, is said by the classes
of the other files of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.distribution.replicas import num_replicas
from rigl.sparse_optimizers import wrapper
from rigl.sparse_optimizers.sparse_layer import (
  SparseLayer,
  check_masks,
  name_layers,
)
from rigl.types import GradsAndVars, Tensor, Variable


class SparseOptimizer(wrapper.WrappingOptimizer):
  """Wraps an optimizer and keeps the weights of a network sparse.

  The optimizer owns one mask a sparse kernel and holds, after every call,
  `kernel == kernel * mask`; the slots (momentum, Adam moments) of dropped
  connections go back to their initial value. The network itself is an
  ordinary one; its gradients are the dense gradients.

  `apply_gradients` is one training iteration, as in the published code. It
  is made of `apply_masked_gradients` and `update_masks`, which loops that
  choose the kind of an iteration on the host call directly, with
  `steps_to_update` to plan by.

  This class alone keeps the masks as they are; see `SparseFixedMaskOptimizer`.

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the steps.
    use_locking: kept for the interface; the wrapped optimizer has its own.
    name: name of the optimizer. None: that of the class.
    weight_decay: factor of the weights in their own gradient, g + decay * w,
      the gradient of decay * sum(w^2) / 2. It is added here rather than to
      the loss, so that connections grow by the gradient of the loss alone.
    decays: says which variables decay. None: all of rank 2 and more.
    seed: seed of all random numbers, together with layer names and steps.
  """

  # Whether an update takes all layers at once, where a method knows how.
  batch_layers = False
  # Whether an update takes the place of a gradient step and needs gradients.
  update_is_iteration = False

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    use_locking: bool = False,
    name: str | None = None,
    *,
    weight_decay: float = 0.0,
    decays: Callable[[Variable], bool] | None = None,
    seed: int = 0,
  ) -> None:
    super().__init__(optimizer, use_locking, name)
    if not 0 <= weight_decay < np.inf:
      raise ValueError(f"`weight_decay` must be >= 0, got {weight_decay}.")
    self._weight_decay = float(weight_decay)
    self._decays = decays or (lambda variable: variable.shape.rank >= 2)
    self._seed = seed
    self._layers: list[SparseLayer] = []
    self._layer_of: dict[int, SparseLayer] = {}
    self._own_step: Variable | None = None

  # Masks.

  def sparsify(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    method: str = "erdos_renyi_kernel",
    default_sparsity: float = 0.9,
    custom_sparsity_map: Mapping[str, float] | None = None,
    erk_power_scale: float = 1.0,
  ) -> dict[str, float]:
    """Gives every kernel a random mask and zeroes its pruned weights.

    Args:
      kernels: the kernels to sparsify, by layer name or as a sequence, whose
        layer names are then the variables' names without the last component.
      method: distribution of the sparsity over layers, see
        `sparse_utils.get_sparsities`.
      default_sparsity: share of zeros, in [0, 1).
      custom_sparsity_map: {layer name: sparsity} for layers that differ.
      erk_power_scale: exponent scale of `erdos_renyi_kernel`.

    Returns:
      {layer name: sparsity}.

    Raises:
      ValueError: if an argument is not as described or names are not unique.
    """
    named = name_layers(kernels)
    arguments = (method, default_sparsity, custom_sparsity_map or {})
    sparsities = sparse_utils.get_sparsities(named, *arguments, erk_power_scale)
    masks = sparse_utils.get_mask_init_fn(
      {name: kernel.shape for name, kernel in named.items()},
      *arguments,
      erk_power_scale=erk_power_scale,
      seed=self._seed,
    )()
    self.create_masks(named, masks)
    return sparsities

  def create_masks(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    masks: Mapping[str, Tensor] | None = None,
  ) -> None:
    """Creates the masks of these kernels and zeroes the pruned weights.

    Call it once, inside the scope of the `tf.distribute` strategy if there is
    one, and before the first step.

    Args:
      kernels: as in `sparsify`.
      masks: {layer name: array or tensor of the kernel's shape}, nonzero for
        active. None: everything is active.

    Raises:
      ValueError: if a mask is missing, unknown or of another shape.
      RuntimeError: if there are masks already.
    """
    if self._layers:
      raise RuntimeError("This optimizer has masks already.")
    named = name_layers(kernels)
    if masks is None:
      masks = {name: tf.ones(k.shape, tf.bool) for name, k in named.items()}
    check_masks(named, masks)
    _check_dtypes(named)
    for name, kernel in named.items():
      self._add_layer(name, kernel, tf.cast(masks[name], tf.bool))
    self._create_state()
    # Now, because a compiled update resets only the slots that it finds.
    self.create_slots(list(named.values()))

  def _add_layer(self, name: str, kernel: Variable, mask: Tensor) -> None:
    layer = SparseLayer(name, kernel, self._new_state(mask, f"{name}/mask"))
    self._layers.append(layer)
    self._layer_of[id(kernel)] = layer
    self._prepare_layer(layer)
    kernel.assign(tf.where(mask, kernel, tf.zeros_like(kernel)))

  def _prepare_layer(self, layer: SparseLayer) -> None:
    """Hook: sees a layer before its pruned weights become zero."""

  def _create_state(self) -> None:
    """Hook: creates the variables that do not belong to one layer."""

  @property
  def layers(self) -> tuple[SparseLayer, ...]:
    """The sparse layers, in the order of creation."""
    return tuple(self._layers)

  @property
  def seed(self) -> int:
    """The seed of the random numbers."""
    return self._seed

  @property
  def global_step(self) -> Variable:
    """The step counter used where no `global_step` is given; int64."""
    if self._own_step is None:
      with tf.init_scope():
        self._own_step = self._new_state(np.int64(0), "global_step")
    return self._own_step

  # One training iteration and its halves.

  def apply_gradients(
    self,
    grads_and_vars: GradsAndVars,
    global_step: Variable | None = None,
    name: str | None = None,
  ) -> tf.Operation | None:
    """One training iteration: a gradient step, a mask update, or both.

    Args:
      grads_and_vars: pairs of dense gradients of the loss and variables. In a
        replica context of `tf.distribute`, each replica's own gradients, of
        which the sum counts.
      global_step: int64 variable that gradient steps advance. None: the
        optimizer's own.
      name: unused; kept for the interface.

    Returns:
      In a graph, the operation that does it.
    """
    step = self.global_step if global_step is None else global_step
    return self._iterate(self.reduce_gradients(grads_and_vars), step)

  def _iterate(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    """One iteration with gradients that are already summed over replicas."""
    return self.apply_masked_gradients(gradients, step, reduced=True)

  def apply_masked_gradients(
    self,
    grads_and_vars: GradsAndVars,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Makes a gradient step that leaves inactive connections at zero.

    Args:
      grads_and_vars: as in `apply_gradients`.
      global_step: int64 variable to advance. None: the optimizer's own.
      reduced: whether the gradients are summed over replicas already.

    Returns:
      In a graph, the operation that does it.
    """
    step = self.global_step if global_step is None else global_step
    if not reduced:
      grads_and_vars = self.reduce_gradients(grads_and_vars)
    return self._inner_step(
      [(self._masked(g, v), v) for g, v in grads_and_vars], step
    )

  def update_masks(
    self,
    grads_and_vars: GradsAndVars | None = None,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Updates all masks now; when that is due, `steps_to_update` says.

    Args:
      grads_and_vars: as in `apply_gradients`; needed by methods whose
        `update_is_iteration` is true, unused by others.
      global_step: int64 variable, read only.
      reduced: whether the gradients are summed over replicas already.

    Returns:
      In a graph, the operation that does it.

    Raises:
      RuntimeError: if this method never updates masks.
    """
    raise RuntimeError(f"{type(self).__name__} never updates its masks.")

  def steps_to_update(self, step: int) -> int | None:
    """The number of gradient steps from `step` until `update_masks` is due.

    It answers on the host, between iterations: 0 means now, before the next
    gradient step; None means never.

    Args:
      step: the current value of `global_step`.
    """
    del step
    return None

  def update_on_host(self, threads: int) -> bool:
    """Makes eager updates start fast, outside of `tf.distribute`.

    They choose connections on the host, several layers at a time, and nothing
    is compiled. Everything is as in a graph but for rounding: of the noise on
    scores, and of the statistics that new weights may be drawn by.

    Args:
      threads: how many layers at a time.

    Returns:
      Whether the method knows how; if not, updates belong into a graph.
    """
    del threads
    return False

  def mark_updated(self, step: Tensor) -> list[tf.Operation]:
    """Notes that the masks were updated, without updating them.

    Who plans a run ahead calls it instead of `update_masks`.

    Args:
      step: int64, the value of `global_step` at the update.

    Returns:
      The assignments.
    """
    del step
    return []

  def drop_fraction(self, step: int) -> float:
    """The share of active connections that an update at `step` drops."""
    del step
    return 0.0

  def regularization_loss(self, variables: Iterable[Variable]) -> Tensor:
    """The loss whose gradient the weight decay is: decay * sum(w^2) / 2."""
    terms = [
      tf.nn.l2_loss(tf.cast(v, tf.float32))
      for v in variables
      if self._decays(v)
    ]
    return self._weight_decay * tf.add_n(terms) if terms else tf.constant(0.0)

  def _inner_step(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    # In a replica context the wrapped optimizer sums over replicas once more.
    share = 1.0 / num_replicas()
    if share != 1.0:
      gradients = [(g * tf.cast(share, g.dtype), v) for g, v in gradients]
    return self._optimizer.apply_gradients(gradients, step)

  def _masked(self, gradient: Tensor, variable: Variable) -> Tensor:
    layer = self._layer_of.get(id(variable))
    if layer is not None:
      gradient = tf.where(layer.mask, gradient, tf.zeros_like(gradient))
    return self._decayed(gradient, variable)

  def _decayed(self, gradient: Tensor, variable: Variable) -> Tensor:
    if self._weight_decay and self._decays(variable):
      gradient += tf.cast(self._weight_decay, gradient.dtype) * variable
    return gradient

  def reduce_gradients(
    self, grads_and_vars: GradsAndVars
  ) -> list[tuple[Tensor, Variable]]:
    """Sums gradients over replicas or shards and leaves out missing ones.

    Everything that masks are derived from passes through here, or replicas
    would drift apart. Of a TPU computation's shards it is the only sum.

    Args:
      grads_and_vars: as in `apply_gradients`.

    Returns:
      Pairs of dense tensors and variables.

    Raises:
      ValueError: if a sparse kernel or every variable lacks its gradient.
    """
    present = [
      (tf.convert_to_tensor(g), v) for g, v in grads_and_vars if g is not None
    ]
    given = {id(variable) for _, variable in present}
    missing = [la.name for la in self._layers if id(la.kernel) not in given]
    if missing or not present:
      raise ValueError(
        "No gradients are given for "
        + (f"the sparse layers {missing}." if missing else "any variable.")
      )
    if num_replicas() > 1:
      gradients = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, [g for g, _ in present]
      )
      present = [(g, v) for g, (_, v) in zip(gradients, present, strict=True)]
    elif self._sums_shards:
      present = [(tf.compat.v1.tpu.cross_replica_sum(g), v) for g, v in present]
    return present

  def _gradient_of(
    self, gradients: Iterable[tuple[Tensor, Variable]], layer: SparseLayer
  ) -> Tensor:
    for gradient, variable in gradients:
      if variable is layer.kernel:
        return gradient
    raise ValueError(f"No gradient is given for the sparse layer {layer.name}.")


def _check_dtypes(kernels: Mapping[str, Variable]) -> None:
  for name, kernel in kernels.items():
    if kernel.dtype not in (tf.float32, tf.bfloat16, tf.float16):
      raise ValueError(
        f"The kernel of {name!r} must be float32, bfloat16 or float16, got "
        f"{kernel.dtype.name}."
      )
