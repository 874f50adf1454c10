"""Packs: many small files in one that is mapped; how it is laid out, written, and checked."""
