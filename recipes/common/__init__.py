"""What every recipe shares, one module per concern, in the order in which data meets them."""
