"""The network of a member: its outputs, losses and gradients, frozen features, and checks of a user's own functions."""
