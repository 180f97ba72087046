"""Large, pretrained models."""
