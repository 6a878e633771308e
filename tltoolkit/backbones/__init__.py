"""One table of pretrained image backbones."""
