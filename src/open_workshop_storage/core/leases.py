"""How long what a worker holds is its own."""

from __future__ import annotations

LEASE_SECONDS = 15.0
"""How long a worker holds a job, a callback or a slot without renewing it."""
RENEW_SECONDS = 5.0
"""How often a worker renews what it holds, in seconds."""
