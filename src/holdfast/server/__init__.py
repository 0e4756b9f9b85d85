"""Where everything is put together, once, and served."""
