"""Downloads: ranges, conditions, labels, access and the answers made of them."""
