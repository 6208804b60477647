"""The command line, a file for each group of commands. None of them loads torch before it is called."""
