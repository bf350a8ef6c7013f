# SPDX-License-Identifier: Apache-2.0
"""Trains Keras models on several replicas; a script that tests run.

It prints, for each way to train, whether all copies are equal, the masks as
bits, and the weights. With TF_CONFIG it is one of several workers.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import keras
import keras_models as suite
import numpy as np
import tensorflow as tf

BATCH = 8


def main() -> None:
  """Trains with each strategy that the arguments name, `METHOD:REPLICAS`."""
  names = sys.argv[1:]
  if "TF_CONFIG" in os.environ:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    print(json.dumps({name: loop(name, strategy) for name in names}))
    return
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 4
  )
  results = {}
  for name in names:
    method, replicas = name.split(":")
    devices = [f"cpu:{i}" for i in range(int(replicas))]
    strategy = None
    if devices:
      strategy = tf.distribute.MirroredStrategy(devices)
    results[name] = train(method, strategy)
  print(json.dumps(results))


def compiled(method: str, strategy: Any) -> keras.Model:
  """A small network with a sparse optimizer."""
  keras.utils.set_random_seed(1)
  with strategy.scope():
    network = keras.Sequential(
      [
        keras.Input((6, 6, 2)),
        keras.layers.Flatten(),
        keras.layers.Dense(6, activation="relu"),
        keras.layers.Dense(suite.CLASSES),
      ]
    )
    optimizer = suite.sparse_optimizer(
      method, keras.optimizers.SGD(0.1, momentum=0.9)
    )
    return suite.compiled(network, optimizer, jit_compile=False)


def train(method: str, strategy: Any) -> dict[str, Any]:
  """Trains with `fit`, in a graph."""
  strategy = strategy or tf.distribute.get_strategy()
  network = compiled(method, strategy)
  images, classes = suite.data()
  network.fit(
    images, classes, batch_size=BATCH, epochs=4, shuffle=False, verbose=0
  )
  return report(strategy, network)


def loop(method: str, strategy: Any) -> dict[str, Any]:
  """Trains in a loop of its own, whose first step builds the optimizer."""
  network = compiled(method, strategy)
  images, classes = suite.data()
  number = strategy.num_replicas_in_sync

  def replica_step(start: tf.Tensor) -> None:
    context = tf.distribute.get_replica_context()
    place = context.replica_id_in_sync_group * (BATCH // number)
    places = start + place + tf.range(BATCH // number)
    with tf.GradientTape() as tape:
      losses = keras.losses.sparse_categorical_crossentropy(
        tf.gather(classes, places),
        network(tf.gather(images, places), training=True),
        from_logits=True,
      )
      loss = tf.reduce_sum(losses) / BATCH
    variables = network.trainable_variables
    network.optimizer.apply(tape.gradient(loss, variables), variables)

  @tf.function
  def step(start: tf.Tensor) -> None:
    strategy.run(replica_step, (start,))

  for number_of_step in range(8):
    step(tf.constant(number_of_step * BATCH % suite.EXAMPLES))
  return report(strategy, network)


def report(strategy: Any, network: keras.Model) -> dict[str, Any]:
  """Whether copies are equal and weights are sparse; masks and weights."""
  optimizer = network.optimizer
  equal, sparse = True, True
  masks = list(optimizer.masks.values())
  for kernel in optimizer._kernels:
    slots = [slot.variable for slot in kernel.slots.all()]
    for variable in (kernel.variable, kernel.mask, *slots):
      copies = [
        np.array(copy)
        for copy in strategy.experimental_local_results(variable.value)
      ]
      equal &= all(np.array_equal(copy, copies[0]) for copy in copies)
    mask = kernel.mask.numpy()
    sparse &= bool(np.all(kernel.variable.numpy()[~mask] == 0))
  return {
    "equal": bool(equal),
    "sparse": sparse,
    "replicas": strategy.num_replicas_in_sync,
    "masks": [np.packbits(k.mask.numpy()).tolist() for k in optimizer._kernels],
    "weights": [
      k.variable.numpy().ravel().tolist() for k in optimizer._kernels
    ],
  }


if __name__ == "__main__":
  main()
