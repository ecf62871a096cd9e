"""What the tests share: real servers and the means to make them fail."""
