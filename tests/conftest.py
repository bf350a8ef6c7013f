"""TensorFlow in the tests is set up as in the scripts, on any processor."""

from rigl.training import onednn  # noqa: F401
