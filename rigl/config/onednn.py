"""Turns on TensorFlow's oneDNN kernels; scripts import it before TensorFlow.

TensorFlow itself does so only on processors with instructions for neural
networks. Where XLA compiles nothing, as in the CIFAR-10 and ImageNet scripts on
a CPU, they make convolutions faster on the others, too.
`TF_ENABLE_ONEDNN_OPTS=0` in the environment keeps them off.
"""

import os

from rigl import needs_tensorflow  # noqa: F401

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
