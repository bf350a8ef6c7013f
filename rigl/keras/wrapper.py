# SPDX-License-Identifier: Apache-2.0
"""A Keras optimizer around another: what it forwards, saves and counts.

Masks and training steps belong to `base.SparseOptimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rigl.docstrings import describe_inherited_arguments
from rigl.types import Variable

# Arguments of every Keras optimizer that a wrapper leaves to the inner one.
INNER_ARGUMENTS = (
  "learning_rate",
  "weight_decay",
  "clipnorm",
  "clipvalue",
  "global_clipnorm",
  "use_ema",
  "ema_momentum",
  "ema_overwrite_frequency",
  "loss_scale_factor",
  "gradient_accumulation_steps",
)


_LEAST_EPSILON = 1e-12


def _forwarded(name: str) -> property:
  """A property that is that of the inner optimizer, to read and to set."""

  def read(self: WrappingOptimizer) -> Any:
    return getattr(self.inner_optimizer, name)

  def write(self: WrappingOptimizer, value: Any) -> None:
    # The constructor of Keras sets what it was given, before there is one.
    if "inner_optimizer" in vars(self):
      setattr(self.inner_optimizer, name, value)

  return property(read, write, doc=f"`{name}` of the inner optimizer.")


class WrappingOptimizer(keras.optimizers.Optimizer):
  """Wraps a Keras optimizer and answers for it.

  Args:
    optimizer: the Keras optimizer that makes the gradient steps, its name or
      its configuration; it must be new.
    name: name of this optimizer. None: one that Keras makes.
    **kwargs: none; arguments of Keras optimizers belong to `optimizer`.

  Raises:
    ValueError: if an argument is not as described.
  """

  built: bool
  inner_optimizer: keras.optimizers.Optimizer

  def __init_subclass__(cls, **options: Any) -> None:
    super().__init_subclass__(**options)
    describe_inherited_arguments(cls)

  def __init__(self, optimizer: Any, name: str | None, **kwargs: Any) -> None:
    _check_arguments(kwargs)
    inner = _checked(optimizer)
    self._check_inner(inner)
    # A function, so that no variable is made for it.
    super().__init__(learning_rate=lambda: inner.learning_rate, name=name)
    self.inner_optimizer = inner

  @classmethod
  def _check_inner(cls, inner: keras.optimizers.Optimizer) -> None:
    """Hook: raises ValueError if the method cannot wrap an optimizer."""
    del inner

  weight_decay = _forwarded("weight_decay")
  clipnorm = _forwarded("clipnorm")
  clipvalue = _forwarded("clipvalue")
  global_clipnorm = _forwarded("global_clipnorm")
  use_ema = _forwarded("use_ema")
  ema_momentum = _forwarded("ema_momentum")
  ema_overwrite_frequency = _forwarded("ema_overwrite_frequency")
  loss_scale_factor = _forwarded("loss_scale_factor")
  gradient_accumulation_steps = _forwarded("gradient_accumulation_steps")
  _model_variables_moving_average = _forwarded(
    "_model_variables_moving_average"
  )

  @property
  def learning_rate(self) -> Any:
    """The learning rate of the inner optimizer: a variable or a tensor."""
    return self.inner_optimizer.learning_rate

  @learning_rate.setter
  def learning_rate(self, learning_rate: Any) -> None:
    self.inner_optimizer.learning_rate = learning_rate

  @property
  def iterations(self) -> Any:
    """The number of gradient steps, as the inner optimizer counts them."""
    return self.inner_optimizer.iterations

  @property
  def variables(self) -> list[Variable]:
    """All variables: the wrapper's own, then those of the inner optimizer."""
    return self._own_state() + self.inner_optimizer.variables

  def _own_state(self) -> list[Variable]:
    """The wrapper's own variables."""
    return list(self._variables)

  def scale_loss(self, loss: Any) -> Any:
    """Scales the loss as the inner optimizer does."""
    return self.inner_optimizer.scale_loss(loss)

  def exclude_from_weight_decay(
    self,
    var_list: Sequence[Variable] | None = None,
    var_names: Sequence[str] | None = None,
  ) -> None:
    """Excludes variables from the weight decay of the inner optimizer.

    Args:
      var_list: variables.
      var_names: parts of variable names.
    """
    self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

  def set_weights(self, weights: Sequence[Any]) -> None:
    """Assigns all `variables`, in their order.

    Args:
      weights: arrays of their shapes.

    Raises:
      ValueError: if the optimizer is not built, or the number or a shape of
        the arrays is wrong.
    """
    if not self.built:
      raise ValueError(
        "The optimizer is not built: call build(model.trainable_variables) "
        "before set_weights()."
      )
    variables = self.variables
    shapes = [tuple(v.shape) for v in variables]
    given = [tuple(getattr(w, "shape", ())) for w in weights]
    if shapes != given:
      raise ValueError(
        f"`weights` must have the shapes {shapes} of `variables`, got {given}."
      )
    for variable, weight in zip(variables, weights, strict=True):
      variable.assign(weight)

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    return {
      "name": self.name,
      "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
    }

  @classmethod
  def from_config(
    cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
  ) -> WrappingOptimizer:
    """Makes an optimizer from the result of `get_config`.

    Args:
      config: the configuration.
      custom_objects: {name: class or function} that Keras does not know.
    """
    arguments = {
      key: keras.saving.deserialize_keras_object(
        value, custom_objects=custom_objects
      )
      if isinstance(value, dict) and "class_name" in value
      else value
      for key, value in config.items()
    }
    return cls(**arguments)


def _check_arguments(arguments: dict[str, Any]) -> None:
  for name in arguments:
    if name in INNER_ARGUMENTS:
      raise ValueError(
        f"`{name}` belongs to the inner optimizer: give it to `optimizer`, as "
        f"in RigL(keras.optimizers.AdamW({name}=...)), got "
        f"{name}={arguments[name]!r}."
      )
    raise ValueError(f"There is no argument `{name}`.")


def _checked(optimizer: Any) -> keras.optimizers.Optimizer:
  """The optimizer to wrap, from what Keras accepts for one."""
  try:
    inner = keras.optimizers.get(optimizer)
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(
      "`optimizer` must be a Keras optimizer, its name or its configuration, "
      f"got {optimizer!r}: {error}"
    ) from error
  if inner is None:
    raise ValueError("`optimizer` must be a Keras optimizer, got None.")
  kind = type(inner).__name__
  if isinstance(inner, WrappingOptimizer):
    raise ValueError(
      f"`optimizer` must not be a sparse one already, got {kind}."
    )
  if isinstance(inner, keras.optimizers.LossScaleOptimizer):
    raise ValueError(
      f"`optimizer` must not scale the loss, got {kind}: wrap the other way, "
      "LossScaleOptimizer(RigL(optimizer)), as `compile` does under "
      "mixed_float16."
    )
  check_unbuilt(inner)
  check_parts(inner)
  return inner


def parts_of(
  optimizer: keras.optimizers.Optimizer,
) -> list[keras.optimizers.Optimizer]:
  """The optimizers inside a `MultiOptimizer`; others by themselves."""
  return list(getattr(optimizer, "optimizers", [optimizer]))


def check_parts(optimizer: keras.optimizers.Optimizer) -> None:
  """Raises ValueError for optimizers that cannot train sparse weights.

  Args:
    optimizer: a Keras optimizer; once built, a `MultiOptimizer` knows all its
      parts.
  """
  for part in parts_of(optimizer):
    # It divides gradients by the root of a product of two means of squares,
    # each at least epsilon_1.
    if (
      isinstance(part, keras.optimizers.Adafactor)
      and part.epsilon_1 < _LEAST_EPSILON
    ):
      raise ValueError(
        "`optimizer`: Adafactor needs an `epsilon_1` of at least "
        f"{_LEAST_EPSILON}, got {part.epsilon_1}, with which it divides 0 by 0 "
        "where neither a row nor a column has active connections."
      )
  if hasattr(optimizer, "optimizers") and any(
    part.gradient_accumulation_steps for part in parts_of(optimizer)
  ):
    raise ValueError(
      "`optimizer` must not accumulate gradients in the parts of a "
      "MultiOptimizer, which would disagree on what a step is."
    )


def check_unbuilt(optimizer: keras.optimizers.Optimizer) -> None:
  """Raises ValueError if the optimizer has variables for weights already."""
  if optimizer.built or any(part.built for part in parts_of(optimizer)):
    raise ValueError(
      f"`optimizer` must be new, got a {type(optimizer).__name__} that is "
      "built already, by training or by another wrapper: make a new one, for "
      "instance with from_config(optimizer.get_config())."
    )
