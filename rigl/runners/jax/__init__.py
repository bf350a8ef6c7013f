# SPDX-License-Identifier: Apache-2.0
"""JAX runner: TensorFlow builds the programs, JAX's client runs them."""
