"""From raw streams to tensors."""
