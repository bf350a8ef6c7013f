"""Input pipelines for ImageNet: files, decoding, cropping, batches."""
