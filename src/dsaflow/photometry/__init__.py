"""Forced photometry at catalogue positions."""
