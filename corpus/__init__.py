"""Sources to clean, unique documents, on Spark."""
