"""Calibration: sky model, solver, solutions, their choice and application."""
