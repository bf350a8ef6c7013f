# SPDX-License-Identifier: Apache-2.0
"""The variables of a checkpoint tell the flags of its model."""

import imagenet_golden
import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.model_flags import ModelFlags
from rigl.imagenet_resnet.published import checkpoint_flags
from rigl.training import checkpoints


def shapes_of(flags):
  """Those of a checkpoint that a run with these flags writes."""
  with tf.Graph().as_default():
    model = flags.create_model()
    variables, kernels = model.named_variables, model.kernels
    found = {name: tuple(v.shape) for name, v in variables.items()}
    if flags.training_method != "baseline":
      found |= {f"{n}/mask": tuple(k.shape) for n, k in kernels.items()}
    found |= {f"{n}/Momentum": found[n] for n in variables if "moving" not in n}
  return {**found, "global_step": (), "iteration": ()}


@pytest.mark.slow
@pytest.mark.parametrize(
  "values",
  [
    dict(first_layer_sparsity=-1.0),
    dict(first_layer_sparsity=-1.0, last_layer_sparsity=0.0, width=0.25),
    dict(training_method="baseline"),
    dict(resnet_depth=18, num_label_classes=10),
    dict(resnet_depth=34, width=0.1),
    dict(model_architecture="mobilenet_v1"),
    dict(model_architecture="mobilenet_v1", width=0.33),
    dict(model_architecture="mobilenet_v1", first_layer_sparsity=0.5),
    dict(model_architecture="mobilenet_v2", last_layer_sparsity=0.0),
    dict(model_architecture="mobilenet_v2", expansion_factor=3.0, width=0.5),
    dict(model_architecture="vgg_16", width=0.25),
    dict(model_architecture="vgg_a", last_layer_sparsity=0.0),
  ],
  ids=str,
)
def test_flags_are_found(values):
  flags = ModelFlags(**{"training_method": "rigl", **values})
  shapes = shapes_of(flags)
  found = checkpoint_flags.find_flags(shapes)
  assert shapes_of(found) == shapes
  if flags.model_architecture == "resnet":
    assert found == flags


def test_a_published_checkpoint_on_the_disk_is_told(tmp_path):
  tensors, masks = imagenet_golden.network("resnet18")
  masks = {f"{n}/mask": m.astype(np.float32) for n, m in masks.items()}
  prefix = checkpoints.save(tmp_path, 3, {**tensors, **masks})
  shapes = checkpoint_flags.read_shapes(prefix)
  flags = checkpoint_flags.find_flags(shapes)
  assert flags == ModelFlags(
    resnet_depth=18,
    width=0.25,
    first_layer_sparsity=-1.0,
    last_layer_sparsity=0.0,
    training_method="rigl",
  )
  assert checkpoint_flags.command_line(flags) == [
    "--resnet_depth=18",
    "--width=0.25",
    "--first_layer_sparsity=-1.0",
    "--last_layer_sparsity=0.0",
    "--training_method=rigl",
  ]


@pytest.mark.parametrize(
  ("values", "missing"),
  [
    (dict(model_architecture="vgg_a"), "conv5_1/weights"),
    (dict(resnet_depth=18), "final_dense/weights"),
    pytest.param(dict(resnet_depth=18), "gamma", marks=pytest.mark.slow),
  ],
)
def test_other_checkpoints_are_refused(values, missing):
  flags = ModelFlags(**values, width=0.1, training_method="rigl")
  shapes = shapes_of(flags)
  others = {n: s for n, s in shapes.items() if not n.endswith(missing)}
  assert len(others) < len(shapes)
  for wrong in (others, {"layer1/weights": (784, 300)}, {}):
    with pytest.raises(ValueError, match="fits no ImageNet model"):
      checkpoint_flags.find_flags(wrong)
