"""Settings of the process that trains: what it computes by, threads, random numbers, a kernel avoided."""
