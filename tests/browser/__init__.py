"""What pages do, in a real browser: Debian's Chromium, without a window."""
