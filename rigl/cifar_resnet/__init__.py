# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 with wide residual networks: data, model, training."""
