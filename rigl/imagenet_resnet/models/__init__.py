"""Networks for ImageNet: ResNet, MobileNet v1 and v2, VGG."""
