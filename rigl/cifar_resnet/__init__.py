"""MNIST with a small fully connected network: data, training, inspection."""
