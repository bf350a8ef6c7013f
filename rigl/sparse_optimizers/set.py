# SPDX-License-Identifier: Apache-2.0
"""SET: sparse evolutionary training, random growth."""

from __future__ import annotations

from rigl.configurable import configurable
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.types import Tensor, Variable


@configurable(
  unrecorded=[
    "use_stateless",
    "stateless_seed_offset",
    "mask_engine",
    "structure",
    "track_exploration",
    "soft_memory",
    "across_layers",
    "layer_floor",
    "drop_gradient_weight",
  ]
)
class SparseSETOptimizer(DropGrowOptimizer):
  """SET (sparse evolutionary training): grows connections at random.

  After the gradient step of an update, in every layer of n active connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many, uniformly at random among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. A connection can be dropped and grown
  back at once; it then keeps its weight. Others start at `grow_init`.

  Mocanu et al., 2018, https://arxiv.org/abs/1707.04780, Algorithm 2.

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the gradient
      steps, such as `MomentumOptimizer`.
    begin_step: first value of `global_step` that may update, at least 0.
    end_step: last value of `global_step` that may update; negative for no end.
    frequency: least number of steps between two updates, at least 1.
    drop_fraction: share f of the active connections to drop in the first
      update, in [0, 1].
    drop_fraction_anneal: how f falls from `begin_step` to `end_step`, with
      p in [0, 1] the share of that window that has passed: `constant`;
      `cosine`, f * (1 + cos(pi * p)) / 2; or `exponential[_K]`,
      f * (1 - p) ** K with K > 0, or 1 if it is left out. Without an end f is
      constant.
    use_locking: unused; part of the interface of `tf.compat.v1.train`.
    grow_init: initial weights of grown connections: `zeros`; `initial_dist`,
      drawn from the initial weights of the layer; `random_normal`, with the
      standard deviation of the active weights; or `random_uniform`, in plus or
      minus their mean magnitude. All but `zeros` may be followed by `_K` to
      divide by K > 0, such as `random_normal_10`.
    name: name of this optimizer. None: the name of the class.
    use_stateless: ignored with a warning: random numbers are always stateless.
    stateless_seed_offset: added to `seed` in mask updates, so that they differ
      where the initial masks are the same.
    noise_std: standard deviation of the noise on |weight| when dropping, at
      least 0. It breaks ties by chance; 0 breaks them by index.
    weight_decay: at least 0; the gradient of a weight w becomes
      g + weight_decay * w, the gradient of loss + weight_decay * sum(w^2) / 2.
      Masks are never derived from this part.
    weight_decay_filter: function of a variable that returns whether it has
      weight decay. None: all variables of rank 2 and more have it.
    seed: seed of all random numbers, together with layer names and steps.
    mask_engine: how connections are chosen, which changes the speed and not
      the choice: `xla` layer by layer, for CPUs; `batched` all layers at once,
      for GPUs and TPUs; `numpy` on the host, with nothing to compile; `auto`
      by the devices that TensorFlow has.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active, for a sparsity of 1 - N / M; `fan_in` keeps the same
      number of connections per output. None: only that per layer is fixed.
    track_exploration: whether to note which connections were ever active, for
      `explored_shares`. It costs one byte per connection, in checkpoints as
      well, and no time outside of mask updates.
    soft_memory: whether there is a surplus of connections between updates
      (Yuan et al., 2021, https://arxiv.org/abs/2110.14032). An update then
      keeps the n connections of largest |weight + noise|, n being what the
      layer had at the start, and grows int(n * f), at most the whole layer;
      the last update that fits before `end_step` only drops. The sparsity asked
      for is that of n. It needs an end.
    across_layers: whether connections are compared over all layers (Yin et al.,
      2023, https://arxiv.org/abs/2305.19454): all together keep their number,
      and each may win or lose some; those that were given all of their
      connections stay dense. Only for layers of ordinary storage.
    layer_floor: least share of its n connections that a layer keeps with
      `across_layers`, in [0, 1]; at least one.
    drop_gradient_weight: at least 0; this times |gradient| is added to
      |weight + noise| when dropping (Yuan et al., 2021).
      Above 0 an update takes the place of a gradient step, as in RigL, because
      its batch gives the gradient.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseSETOptimizer(
    ...   inner, begin_step=0, end_step=25000, frequency=100, drop_fraction=0.3
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.sparsify([kernel], "random", default_sparsity=0.5)
    {'layer1': 0.5}
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  def _signal(
    self,
    layer: SparseLayer,
    gradients: list[tuple[Tensor, Variable]] | None,
  ) -> Tensor | None:
    return self._gradient_of(gradients, layer) if gradients else None

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return self._random_uniform(mask.shape[0], key)
