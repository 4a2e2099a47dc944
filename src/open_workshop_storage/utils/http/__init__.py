"""Headers and bodies as HTTP and tus define them."""
