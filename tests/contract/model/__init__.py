"""A model check of the scripts: random operations, faults and zombies on a real Redis, beside a plain reference."""
