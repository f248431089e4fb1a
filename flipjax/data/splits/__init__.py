"""Which images stand in which part and fold, and an overview of them."""
