"""Report line of an epoch of the MNIST script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from rigl import sparse_utils
from rigl.mnist.compress import compress_fully_connected
from rigl.sparse_optimizers import SparseOptimizer


def mask_arrays(optimizer: SparseOptimizer) -> dict[str, np.ndarray]:
  """The masks by layer name, bool [inputs, outputs]; none without masks."""
  return {layer.name: layer.mask.numpy() for layer in optimizer.layers}


def epoch_line(
  epoch: int,
  iteration: int,
  test: Mapping[str, float],
  masks: Mapping[str, np.ndarray],
) -> str:
  """One line with loss, accuracy, sparsities and compressed size.

  Args:
    epoch: epochs that are over.
    iteration: iterations that are over.
    test: `loss` and `accuracy` of the test images.
    masks: masks by layer name, in the order of the layers; may be empty.
  """
  line = (
    f"epoch {epoch}, iteration {iteration}: test loss {test['loss']:.4f}, "
    f"test accuracy {test['accuracy']:.4f}"
  )
  if not masks:
    return line
  arrays = list(masks.values())
  overall = sparse_utils.calculate_sparsity(arrays)
  layers = _list(sparse_utils.calculate_sparsity([m]) for m in arrays[:2])
  left = compress_fully_connected(arrays)
  sizes = "-".join(str(size) for size in left.sizes)
  return (
    f"{line}, sparsity {overall:.4f} (layers {layers}), compressed to {sizes} "
    f"with sparsity {_list(left.sparsities)}"
  )


def _list(values: Iterable[float]) -> str:
  return ", ".join(f"{value:.4f}" for value in values)
