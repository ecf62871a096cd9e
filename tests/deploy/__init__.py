"""What runs Tailrace, tried as its users try it: the launcher, the images, the compose project, the wheel."""
