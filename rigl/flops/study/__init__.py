# SPDX-License-Identifier: Apache-2.0
"""The study of all methods on CIFAR-10: its runs, table and plots."""
