"""Signals: what is measured once about every document, so that rules are only thresholds."""
