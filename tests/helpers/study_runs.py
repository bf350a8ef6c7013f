# SPDX-License-Identifier: Apache-2.0
"""Made-up runs of the study of all methods."""

import csv
import json

from rigl import counting
from rigl.counting import architectures

STEPS = 97_656
# A convolution of 8 x 8 pixels, 3 x 3 window, 128 inputs and outputs. Without
# half of its weights it makes as many multiplications and additions less.
LAYER = "resnet_model/conv_4_2_2"
SAVED = 2 * 64 * (3 * 3 * 128 * 128 // 2)


def dense_flops():
  layers = architectures.network("wrn_22_2")
  return counting.total_count([counting.count_layer(n) for n in layers]).flops


def make_run(folder, name, seed=0, accuracy=0.9, shares=None, **settings):
  """Writes what a run leaves.

  Args:
    folder: holds the runs.
    name: name of the configuration.
    seed: its seed.
    accuracy: final test accuracy in [0, 1]; None: the run has no result yet.
    shares: [(step, sparsity of `LAYER`, explored share or None), ...].
    **settings: those that differ from RigL's.
  """
  place = folder / f"{name}_seed{seed}"
  place.mkdir(parents=True)
  known = {
    "seed": seed,
    "resnet_depth": 22,
    "resnet_width": 2,
    "num_classes": 10,
    "batch_size": 128,
    "max_steps": STEPS,
    "training_method": "rigl",
    "end_sparsity": 0.9,
    "maskupdate_frequency": 100,
  }
  text = json.dumps({"settings": {**known, **settings}})
  (place / "run.json").write_text(text)
  with (place / "metrics.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["step", f"sparsity/{LAYER}", "explored"])
    rows = shares or [(settings.get("max_steps", STEPS), 0.5, None)]
    writer.writerows([["" if v is None else v for v in row] for row in rows])
  if accuracy is not None:
    result = {"test_accuracy": accuracy, "step": rows[-1][0]}
    (place / "result.json").write_text(json.dumps(result))
  return place


def make_dense(folder, seed=0, accuracy=0.94):
  shares = [(STEPS, None, None)]
  return make_run(
    folder, "baseline", seed, accuracy, shares, training_method="baseline"
  )
