"""What lies in the bucket, and the rules about it."""
