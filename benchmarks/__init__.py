"""Measures speed, beside that of what people use today."""
