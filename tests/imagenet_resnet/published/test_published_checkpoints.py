# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints become what a run restores."""

import imagenet_golden
import numpy as np
import pytest
import tensorflow as tf

from rigl import sparse_optimizers
from rigl.imagenet_resnet.published import published_checkpoints

NAME = "resnet_model/final_dense"
MASK = np.float32([[1, 0], [0, 1]])


def checkpoint(**more):
  return {
    "global_step": np.int64(500),
    f"{NAME}/mask": MASK,
    f"{NAME}/weights": np.float32([[1, 2], [3, 4]]),
    f"{NAME}/weights/Momentum": np.float32([[5, 6], [7, 8]]),
    **more,
  }


def optimizer_of(kind=sparse_optimizers.SparseFixedMaskOptimizer, **arguments):
  inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
  return kind(inner, **arguments)


def rigl():
  return optimizer_of(
    sparse_optimizers.SparseRigLOptimizer,
    begin_step=100,
    end_step=25000,
    frequency=100,
  )


def test_weights_and_slots_are_zero_where_the_mask_is():
  found = published_checkpoints.adapted(checkpoint(), optimizer_of(), 200)
  assert found[f"{NAME}/weights"].tolist() == [[1, 0], [0, 4]]
  assert found[f"{NAME}/weights/Momentum"].tolist() == [[5, 0], [0, 8]]
  assert found[f"{NAME}/weights/dense"].tolist() == [[1, 2], [3, 4]]


def test_the_position_is_the_start_of_the_epoch():
  found = published_checkpoints.adapted(checkpoint(), optimizer_of(), 200.5)
  assert found["data_position"].tolist() == [2, 0]
  assert found["data_position"].dtype == np.int64


@pytest.mark.parametrize(
  "last, updates", [(-100, 0), (100, 1), (400, 4), (500, 5)]
)
def test_updates_that_took_the_place_of_steps_are_iterations(last, updates):
  tensors = checkpoint(last_mask_update_step=np.int64(last))
  assert (
    published_checkpoints.adapted(tensors, rigl(), 200)["iteration"]
    == 500 + updates
  )
  plain = published_checkpoints.adapted(tensors, optimizer_of(), 200)
  assert plain["iteration"] == 500


@pytest.mark.parametrize("is_snipped", [False, True])
def test_pruning_by_snip_is_an_iteration(is_snipped):
  optimizer = optimizer_of(
    sparse_optimizers.SparseSnipOptimizer,
    default_sparsity=0.5,
    mask_init_method="random",
  )
  tensors = checkpoint(is_snipped=np.bool_(is_snipped))
  found = published_checkpoints.adapted(tensors, optimizer, 200)
  assert found["iteration"] == 500 + is_snipped


def test_our_own_checkpoints_stay_as_they_are():
  tensors = checkpoint(iteration=np.int64(7))
  found = published_checkpoints.adapted(tensors, rigl(), 200)
  assert found.keys() == tensors.keys()
  assert found[f"{NAME}/weights"].tolist() == [[1, 2], [3, 4]]


def test_averaged_gradients_get_our_names():
  layers = list(imagenet_golden.model_of("resnet18").kernels)
  scopes = [layer.removeprefix("resnet_model/") for layer in layers]
  tensors = checkpoint(**{f"{layer}/mask": MASK for layer in layers})
  for number, scope in enumerate(scopes):
    kind = "MatMul" if scope == "final_dense" else "block/convolution"
    group = "" if scope == "final_dense" else "block_group1/"
    tensors[
      f"train/gradients_1/resnet_model/{group}{scope}/{kind.split('/')[-1]}"
      "_grad/tuple/control_dependency_1/ExponentialMovingAverage"
    ] = np.full([2, 2], number, np.float32)
  found = published_checkpoints.adapted(tensors, optimizer_of(), 200)
  for number, layer in enumerate(layers):
    name = f"{layer}/weights/ExponentialMovingAverage"
    assert found[name][0, 0] == number
