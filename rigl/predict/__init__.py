# SPDX-License-Identifier: Apache-2.0
"""The command `rigl-predict`: predictions of trained networks for images."""
