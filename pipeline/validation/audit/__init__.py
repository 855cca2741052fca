"""Rows in are rows out and what was put aside, proved: every exposure of every file is followed to where it ended."""
