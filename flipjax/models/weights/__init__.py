"""The weights of networks: initial, read from files, and under PyTorch's names."""
