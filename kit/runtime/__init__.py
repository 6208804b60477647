"""Settings of the process that trains: threads, malloc, the garbage collector, and a faulty oneDNN kernel avoided."""
