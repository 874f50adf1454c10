"""What a user chains: the methods of `Dataset`, by what they are about, on top of what all of them build."""
