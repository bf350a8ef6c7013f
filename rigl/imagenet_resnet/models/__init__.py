# SPDX-License-Identifier: Apache-2.0
"""Networks for ImageNet: ResNet, MobileNet v1 and v2, VGG."""
