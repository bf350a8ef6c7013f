# SPDX-License-Identifier: Apache-2.0
"""Input pipelines for ImageNet: files, decoding, cropping, batches."""
