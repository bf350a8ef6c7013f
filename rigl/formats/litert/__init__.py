# SPDX-License-Identifier: Apache-2.0
"""LiteRT (once TensorFlow Lite) files with sparse tensors."""
