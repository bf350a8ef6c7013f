# SPDX-License-Identifier: Apache-2.0
"""The ImageNet task: ResNet, MobileNet and VGG."""
