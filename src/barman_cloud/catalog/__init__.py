"""What is in the bucket, and the rules about it."""
