"""Images and labels: sources, decoding, splits."""
