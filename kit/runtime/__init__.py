"""The process that trains: threads, freed memory, the garbage collector, and a kernel that is kept clear of."""
