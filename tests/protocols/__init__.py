"""What every wire makes of every log: golden files, cuts, and cold renderers."""
