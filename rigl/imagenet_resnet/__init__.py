"""The ImageNet task: ResNet, MobileNet and VGG."""
