"""Settings of the process that trains: instructions, threads, memory, garbage collector, a faulty kernel avoided."""
