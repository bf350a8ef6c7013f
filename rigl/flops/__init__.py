# SPDX-License-Identifier: Apache-2.0
"""What sparse networks cost: the command `rigl-flops` and the paper's tables.

The rules of counting are in `rigl.counting`.
"""
