"""What the tests, the demo and the benchmarks run against: real PostgreSQL servers and object stores on loopback."""
