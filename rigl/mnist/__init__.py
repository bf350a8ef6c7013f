# SPDX-License-Identifier: Apache-2.0
"""MNIST with a small fully connected network: data, training, inspection."""
