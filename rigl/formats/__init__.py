# SPDX-License-Identifier: Apache-2.0
"""Files of trained networks: compact files, SavedModels, LiteRT."""
