"""Steps that change the colours of a picture, each pixel by itself."""
