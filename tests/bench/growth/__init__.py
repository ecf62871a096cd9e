"""How cost grows: CPU and memory of each process against one quantity at a time, as curves, fitted and drawn."""
