"""Reads the pages of a damaged database without SQLite, and builds a new one of the rows that can be trusted."""
