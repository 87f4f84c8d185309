"""Networks and recipes that work as they are."""
