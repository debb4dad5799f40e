"""What was measured or done, as records, pages and figures that verbs write."""
