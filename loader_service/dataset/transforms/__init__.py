"""What happens to a sample between its source and its row; one file for each transform, or family of them."""
