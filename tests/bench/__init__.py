"""The benchmark: the product against its peers (`make bench`) and against its own counts (`make bench-quick`)."""
