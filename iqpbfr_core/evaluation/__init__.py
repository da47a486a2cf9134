"""Measuring restorers."""
