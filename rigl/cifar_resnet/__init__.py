"""CIFAR-10 with wide residual networks: data, model, training."""
