# SPDX-License-Identifier: Apache-2.0
"""Training: loop, executor protocol, trainer, checkpoints and reports.

It knows no task and no sparse-training method.
"""
