"""Processes that fill rows: what starts them, which rows go to which, and what each of them does."""
