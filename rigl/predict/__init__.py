"""The command `rigl-predict`: predictions of trained networks for images."""
