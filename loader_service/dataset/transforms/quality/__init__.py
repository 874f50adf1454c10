"""Steps that make a picture worse, or sharper: blur, noise, JPEG."""
