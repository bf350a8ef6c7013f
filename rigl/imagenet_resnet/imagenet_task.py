# SPDX-License-Identifier: Apache-2.0
"""Classification of ImageNet images: losses and metrics of a network."""

from __future__ import annotations

import tensorflow as tf

from rigl.imagenet_resnet.input.preprocessing import normalise
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.training.top_k import hits_in_top_k
from rigl.types import Batch, Tensor, Variable

_TOP = 5


class ImagenetTask:
  """Cross-entropy with smoothed labels, as the published models train with.

  Attributes:
    model: the argument.

  Args:
    model: maps normalised images to logits.
    label_smoothing: share of the label that is spread over all classes, in
      evaluations, too.
    use_batch_statistics: whether evaluations run the network as training does
      (which moves its averages).
  """

  metric_names = ("loss", "accuracy", "top_5_accuracy")
  headline_metrics = ("accuracy", "top_5_accuracy")

  def __init__(
    self,
    model: ImageModel,
    label_smoothing: float = 0.1,
    use_batch_statistics: bool = False,
  ) -> None:
    self.model, self._label_smoothing = model, label_smoothing
    self._use_batch_statistics = use_batch_statistics
    self._variables = tuple(model.trainable_variables)

  @property
  def trainable_variables(self) -> tuple[Variable, ...]:
    """The variables to train."""
    return self._variables

  @property
  def eval_metric_names(self) -> tuple[str, ...]:
    """The names of the metrics of an evaluation."""
    return self.metric_names

  def metrics(
    self, batch: Batch, iteration: Tensor | None = None
  ) -> dict[str, Tensor]:
    """Cross-entropy (`loss`) and hits of each image.

    Args:
      batch: `images`, [batch, height, width, 3] in [0, 255], and `labels`,
        int32 [batch].
      iteration: int64 scalar. None: evaluation.

    Returns:
      float32 [batch] each; in `top_5_accuracy` a hit is a label among the five
      greatest logits.
    """
    training = iteration is not None or self._use_batch_statistics
    labels = batch["labels"]
    logits = self.model(normalise(batch["images"]), training)
    classes = logits.shape[-1]
    share = self._label_smoothing
    targets = tf.one_hot(labels, classes) * (1.0 - share) + share / classes
    loss = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    hits = tf.equal(tf.argmax(logits, 1, tf.int32), labels)
    return {
      "loss": loss,
      "accuracy": tf.cast(hits, tf.float32),
      "top_5_accuracy": hits_in_top_k(logits, labels, _TOP),
    }
