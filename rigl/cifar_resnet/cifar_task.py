# SPDX-License-Identifier: Apache-2.0
"""Classification of CIFAR images: losses and metrics of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from rigl.cifar_resnet import augment
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.distribution import replicas
from rigl.training.top_k import hits_in_top_k
from rigl.types import Batch, Metrics, Tensor, Variable

_TOP = 5

_AUGMENT_STREAM, _DROPOUT_STREAM = range(2)
# Distance between the keys of two iterations.
_KEYS = 2**20
# Distance between the dropout keys of two replicas.
_REPLICA_KEYS = 2**10


class CifarTask:
  """Standardised images, in training cropped and flipped at random.

  Attributes:
    model: the argument.

  Args:
    model: maps images to logits.
    seed: seed of everything random.
    num_classes: number of classes.
    per_class: whether evaluations count the examples of every class: those
      with this label (`labels/K`), those the network takes for it
      (`predictions/K`), and those of which both are true (`hits/K`).
  """

  metric_names = ("loss", "accuracy", "top_5_accuracy")
  headline_metrics = ("accuracy",)

  def __init__(
    self, model: WideResNet, seed: int, num_classes: int, per_class: bool = True
  ) -> None:
    self.model, self._seed = model, seed
    self._variables = model.trainable_variables
    self._classes = range(num_classes) if per_class else range(0)

  @property
  def trainable_variables(self) -> tuple[Variable, ...]:
    """The variables to train."""
    return self._variables

  @property
  def eval_metric_names(self) -> tuple[str, ...]:
    """The names of the metrics of an evaluation."""
    counts = ("labels", "predictions", "hits")
    return (
      "loss",
      "accuracy",
      *(f"{count}/{k}" for count in counts for k in self._classes),
    )

  def metrics(
    self, batch: Batch, iteration: Tensor | None = None
  ) -> dict[str, Tensor]:
    """Cross-entropy (`loss`), hits and, in evaluations, counts of each example.

    Args:
      batch: `images`, uint8 [batch, 32, 32, 3], and `labels`, int32 [batch].
      iteration: int64 scalar, which decides augmentation and dropout. None:
        evaluation.

    Returns:
      float32 [batch] each. In `accuracy` a hit is the greatest logit at the
      label, in `top_5_accuracy`, which is for training, one of the five
      greatest.
    """
    images, labels = augment.standardize(batch["images"]), batch["labels"]
    key = None
    if iteration is not None:
      images = augment.random_crop_and_flip(
        images, self._key(iteration, _AUGMENT_STREAM)
      )
      key = self._key(iteration, _DROPOUT_STREAM)
    logits = self.model(images, key)
    predictions = tf.argmax(logits, 1, tf.int32)
    hits = tf.equal(predictions, labels)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    found = {"loss": loss, "accuracy": tf.cast(hits, tf.float32)}
    if iteration is None:
      return {**found, **self._counts(labels, predictions)}
    return {**found, "top_5_accuracy": hits_in_top_k(logits, labels, _TOP)}

  def _counts(self, labels: Tensor, predictions: Tensor) -> dict[str, Tensor]:
    found = {}
    for k in self._classes:
      is_label, is_prediction = tf.equal(labels, k), tf.equal(predictions, k)
      found[f"labels/{k}"] = tf.cast(is_label, tf.float32)
      found[f"predictions/{k}"] = tf.cast(is_prediction, tf.float32)
      found[f"hits/{k}"] = tf.cast(is_label & is_prediction, tf.float32)
    return found

  def _key(self, iteration: Tensor, stream: int) -> Tensor:
    """int64 [2]: the key of one kind of random numbers of an iteration."""
    number = (2 * iteration + stream) * _KEYS
    if stream == _DROPOUT_STREAM and replicas.num_replicas() > 1:
      number += tf.cast(replicas.replica_number(), tf.int64) * _REPLICA_KEYS
    return tf.stack([tf.constant(self._seed, tf.int64), number])


def with_precision_and_recall(
  means: Mapping[str, float], class_names: Sequence[str]
) -> Metrics:
  """Replaces the counts of classes in an evaluation.

  Args:
    means: means of the metrics of `CifarTask`, with or without counts.
    class_names: names of the classes, by label.

  Returns:
    The metrics other than counts, and `precision/CLASS` (hits of all
    predictions of the class) and `recall/CLASS` (hits of all its labels), by
    the names of classes; 0 where there is none.
  """
  metrics = {name: value for name, value in means.items() if "/" not in name}
  classes = [name[5:] for name in means if name.startswith("hits/")]
  for rate, count in (("precision", "predictions"), ("recall", "labels")):
    for k in classes:
      among, name = means[f"{count}/{k}"], class_names[int(k)]
      metrics[f"{rate}/{name}"] = means[f"hits/{k}"] / among if among else 0.0
  return metrics
