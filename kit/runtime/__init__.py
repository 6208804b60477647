"""Settings of the process that trains: instructions, threads, memory, random numbers, collector, a kernel avoided."""
