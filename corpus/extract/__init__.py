"""Extraction: RAW records to documents of clean text, each document in a killable process."""
