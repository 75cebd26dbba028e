"""What is measured, and how: speed beside what people use today."""
