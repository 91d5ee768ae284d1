"""From graphs of models to programs of the core."""
