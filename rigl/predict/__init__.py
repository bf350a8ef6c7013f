"""What trained networks say about images: the command `rigl-predict`."""
