"""HTTP service over the run record: create mosaics, watch them, read products, see what fails.

Reads are open on loopback; whatever changes something needs the bearer token. One process serves:
the background tasks that dispatch queued runs live in it.
"""
