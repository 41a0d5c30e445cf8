"""Making datasets: plan, files, books, workers."""
