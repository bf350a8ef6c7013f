# SPDX-License-Identifier: Apache-2.0
"""Costs of sparse networks: the command `rigl-flops`, the published tables.

The rules of counting are in `rigl.counting`.
"""
