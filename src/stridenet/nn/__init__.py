"""Networks: pure operations, parameters, layers and losses."""
