# SPDX-License-Identifier: Apache-2.0
"""Predicts the classes of images with a checkpoint.

For example (`--help` lists all flags):

  python scripts/predict.py --task=cifar10 --resnet_depth=22 --resnet_width=2 \
    --training_method=rigl --checkpoint=DIR/model.ckpt-97656 \
    --images=images.npz --output=predictions.npz
"""

from rigl.predict import command

if __name__ == "__main__":
  command.run()
