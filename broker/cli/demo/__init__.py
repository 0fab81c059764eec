"""The stories of `credbroker demo`, and who plays in them."""
