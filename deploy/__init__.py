"""Running Tailrace: the local launcher, images, manifests and load tools. Nothing that ships imports it."""
